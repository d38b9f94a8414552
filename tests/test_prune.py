"""Pruning against a masked model, targets, rounding, and what cannot be reached."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mbcompress import MbcompressError, Progress
from mbcompress.counting import count_macs, count_parameters
from mbcompress.host import Catalogue

EXAMPLE = torch.zeros(1, 3, 32, 32)


@pytest.mark.parametrize("criterion", ["l1", "l2", "bn_scale"])
def test_pruned_model_equals_the_masked_one(
    catalogue: Catalogue, tiny_model: Callable[..., Any], make_context: Callable[..., Any], criterion: str
) -> None:
    """Half of one block's hidden channels are zeroed everywhere; they must be what goes, and no output may change."""
    model = tiny_model("mobilenet_v2", width=1.0)
    block = model.features[2].conv  # 1x1 to 96, 3x3 depthwise, 1x1 linear
    dead = slice(0, 48)
    with torch.no_grad():
        for weight in (block[0][0].weight, block[0][1].weight, block[0][1].bias):
            weight[dead] = 0
        for weight in (block[1][0].weight, block[1][1].weight, block[1][1].bias):
            weight[dead] = 0
        block[2].weight[:, dead] = 0
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        masked = model(images)
    share = 1 - count_macs(model, EXAMPLE) ** -1  # the least possible step
    options = {"criterion": criterion, "target_macs": share, "round_to": 48, "recalibrate": False}
    context = make_context(model)
    pruned = catalogue.passes.build("prune", options, catalogue).apply(model, context)
    assert pruned.features[2].conv[0][0].out_channels == 48
    with torch.no_grad():
        torch.testing.assert_close(pruned(images), masked, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("source", "scope", "option"),
    [
        ("mobilenet_v1", "global", "target_macs"),
        ("mobilenet_v1", "uniform", "target_parameters"),
        ("mobilenet_v2", "global", "target_parameters"),
        ("mobilenet_v2", "uniform", "target_macs"),
        ("mobilenet_v3_small", "global", "target_macs"),
        ("mobilenet_v3_small", "uniform", "target_parameters"),
        ("mobilenet_v3_large", "global", "target_parameters"),
        ("mobilenet_v3_large", "uniform", "target_macs"),
    ],
)
def test_target_is_met_and_channels_are_round(
    catalogue: Catalogue,
    tiny_model: Callable[..., Any],
    make_context: Callable[..., Any],
    source: str,
    scope: str,
    option: str,
) -> None:
    model = tiny_model(source, width=0.5)

    def size(model: torch.nn.Module) -> int:
        return count_macs(model, EXAMPLE) if option == "target_macs" else count_parameters(model)

    context = make_context(model)
    pruned = catalogue.passes.build("prune", {option: 0.6, "scope": scope}, catalogue).apply(model, context)
    left = size(pruned) / size(context.baseline)
    assert 0.35 < left <= 0.6
    assert context.metrics["left"] == left
    assert all(m.out_channels % 8 == 0 for m in pruned.modules() if isinstance(m, torch.nn.Conv2d))
    with torch.no_grad():
        assert pruned(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_steps_approach_the_target_with_recovery_between(
    catalogue: Catalogue, tiny_model: Callable[..., Any], make_context: Callable[..., Any]
) -> None:
    labels: list[str] = []

    class Recorder(Progress):
        def track(self, items: Any, label: str, total: int) -> Any:
            labels.append(label)
            return iter(())  # no training: only the sequence is of interest

    model = tiny_model("mobilenet_v1", width=0.5)
    context = make_context(model, progress=Recorder())
    options = {"target_macs": 0.4, "steps": 3, "recovery": {"epochs": 1}}
    pruned = catalogue.passes.build("prune", options, catalogue).apply(model, context)
    assert count_macs(pruned, EXAMPLE) <= 0.4 * count_macs(context.baseline, EXAMPLE)
    assert [label.partition(", epoch")[0] for label in labels] == ["prune, recovery 1/2", "prune, recovery 2/2"]


def test_unreachable_target_says_what_could_be_reached(
    catalogue: Catalogue, tiny_model: Callable[..., Any], make_context: Callable[..., Any]
) -> None:
    model = tiny_model("mobilenet_v2")
    prune = catalogue.passes.build("prune", {"target_macs": 0.01}, catalogue)
    with pytest.raises(
        MbcompressError, match=r"target_macs 0.01 cannot be reached with round_to 8, the least is 0\.\d+"
    ):
        prune.apply(model, make_context(model))


def test_random_criterion_is_deterministic_by_seed(
    catalogue: Catalogue, tiny_model: Callable[..., Any], make_context: Callable[..., Any]
) -> None:
    prune = catalogue.passes.build("prune", {"target_macs": 0.5, "criterion": "random"}, catalogue)
    first, second = (prune.apply(m, make_context(m)).state_dict() for m in (tiny_model("mobilenet_v1"),) * 2)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_statistics_are_those_of_the_pruned_network(catalogue: Catalogue, make_context: Callable[..., Any]) -> None:
    from mbcompress.training import evaluate

    spec = {"source": "mobilenet_v1", "num_classes": 10, "width": 0.5, "input_size": 32, "strides_removed": 1}
    model = catalogue.build_model({**spec, "weights": "zoo:mobilenet_v1_digits"}).load()
    context = make_context(model)
    accuracy = {}
    for recalibrate in (False, True):
        options = {"target_macs": 0.5, "round_to": 16, "recalibrate": recalibrate}
        pruned = catalogue.passes.build("prune", options, catalogue).apply(model, context)
        data = context.data
        accuracy[recalibrate] = evaluate(pruned, data.validation, data.normalization, context.device).top1
    assert accuracy[True] > 0.8 > accuracy[False]


def test_recovery_in_one_step_is_refused(catalogue: Catalogue) -> None:
    from mbcompress.errors import SpecError

    with pytest.raises(SpecError, match="one step only; set 'steps' to 2 or more"):
        catalogue.passes.build("prune", {"target_macs": 0.5, "recovery": {"epochs": 1}}, catalogue)
