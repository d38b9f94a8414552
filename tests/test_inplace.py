"""In-place activations are exchanged where nobody notices, and only there."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mbcompress_onnx.inplace import out_of_place
from torch import Tensor, nn

EXAMPLE = torch.zeros(2, 3, 32, 32)


class ReadsAgain(nn.Module):
    """Adds what the activation has changed, as residual networks of some authors do."""

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 10, 3)
        self.act = nn.ReLU(inplace=inplace)

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(images)
        return (self.act(features) + features).mean((2, 3))


@pytest.mark.parametrize("source", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small"])
def test_a_copy_that_computes_the_same(source: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(source)
    twin = out_of_place(model, EXAMPLE)
    assert not any(getattr(module, "inplace", False) for module in twin.modules())
    assert any(getattr(module, "inplace", False) for module in model.modules())
    images = torch.randn(EXAMPLE.shape)
    with torch.no_grad():
        assert torch.equal(twin(images), model(images))


def test_networks_that_stay_as_they_are() -> None:
    for model in (ReadsAgain(inplace=True), ReadsAgain(inplace=False)):
        assert out_of_place(model.eval(), EXAMPLE) is model
