"""ResNet-9: shapes, counts and what it is for."""

import pytest
import torch

from mbcompress.graph import count_macs, count_parameters
from mbcompress.registry.discovery import Registry


@pytest.mark.parametrize(
    ("width", "parameters", "macs"),
    [(1.0, 6_573_130, 379.26), (0.25, 412_954, 24.04)],
)
def test_counts(registry: Registry, width: float, parameters: int, macs: float) -> None:
    """By hand: the sum over 3x3 convolutions of 9 * inputs * outputs, times H W before the pooling."""
    model = registry.build_model({"source": "resnet9", "num_classes": 10, "input_size": 32, "width": width}).load()
    assert count_parameters(model) == parameters
    assert count_macs(model, torch.zeros(1, 3, 32, 32)) / 1e6 == pytest.approx(macs, abs=0.01)
    assert model(torch.zeros(2, 3, 40, 24)).shape == (2, 10)
