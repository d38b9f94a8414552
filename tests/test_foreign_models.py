"""Users' modules through the whole chain, and the reports where a pass cannot handle them."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from foreign_models import Attention, Gelu, HandWrittenMobileNetV3, Inception, Moody, TensorFlowMobileNetV2
from mbcompress_quantize.calibration import calibrate
from mbcompress_quantize.graph import FakeQuantized, canonical_graph
from mbcompress_quantize.saturation import adds_in_16_bits
from mbcompress_quantize.scheme import Scheme
from torch import nn

import mbcompress
from mbcompress import MbcompressError, Progress, TrainingConfig
from mbcompress.graph import count_macs
from mbcompress.pipeline.model import prepare_model
from mbcompress.registry.discovery import Registry
from mbcompress.training import fit

SHAPE = (3, 32, 32)


class Told(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def warmed(model: nn.Module) -> nn.Module:
    """Return the model with BatchNorm statistics of noise, in eval mode."""
    torch.manual_seed(0)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(32, *SHAPE))
    return model.eval()


@pytest.fixture(scope="module")
def tensorflow_net(registry: Registry, digits: Any) -> TensorFlowMobileNetV2:
    """MobileNetV2 at width 0.25 in TensorFlow's style, trained on digits for six epochs, BatchNorm folded."""
    from mbcompress.contract.context import Context

    torch.manual_seed(0)
    model = TensorFlowMobileNetV2(head=256)
    options = TrainingConfig(epochs=6, lr=0.1, schedule="one_cycle", crop_padding=0, bn_momentum=0.3)
    fit(model, Context(digits.development(), model, SHAPE, torch.device("cpu"), 0), options)
    return model.eval().fold()


def test_tensorflow_style_mobilenet_v2_through_the_whole_chain(
    tensorflow_net: TensorFlowMobileNetV2, digits: Any, tmp_path: Path
) -> None:
    before = copy.deepcopy(tensorflow_net.state_dict())
    passes = [
        {"prune": {"target_macs": 0.7}},
        {"distill": {"training": {"epochs": 2, "lr": 0.02, "crop_padding": 0}}},
        {"qat": {"training": {"epochs": 1, "crop_padding": 0}}},
    ]
    recipe = {"passes": passes, "measure": {"rounds": 5, "round_ms": 1.0, "threads": [1]}}
    report = mbcompress.compress(tensorflow_net, recipe, digits, out=tmp_path / "run").report
    assert all(torch.equal(before[key], value) for key, value in tensorflow_net.state_dict().items())
    assert report["result"]["convolutions"] == {"total": 53, "int8": 53}
    top1 = {side: report[side]["accuracy"]["top1"]["value"] for side in ("baseline", "result")}
    assert top1["baseline"] > 0.85
    assert top1["result"] > top1["baseline"] - 0.08  # two epochs of distillation
    assert report["result"]["macs"] <= 0.7 * report["baseline"]["macs"]
    assert report["ratio"]["size"] > 3
    prune, _, qat = (step["metrics"] for step in report["passes"])
    assert prune["unpruned_layers"] == qat["float_layers"] == 0
    for name in ("baseline.onnx", "model.onnx"):
        kinds = {node.op_type for node in onnx.load(tmp_path / "run" / name).graph.node}
        assert not kinds & {"Pad", "ReduceMean"} - ({"ReduceMean"} if name == "baseline.onnx" else set())


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, float]] = {
    "h-swish and attention by hand": (HandWrittenMobileNetV3, 7, 30),
    "concatenation and max pooling": (Inception, 3, 30),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_convolution_becomes_an_integer_one(registry: Registry, tmp_path: Path, name: str) -> None:
    build, convolutions, quality = NETWORKS[name]
    model, images = warmed(build()), torch.randn(64, *SHAPE)
    graph = canonical_graph(model, images[:2], "test")
    calibrated = calibrate(graph, Scheme(), [images])
    assert calibrated.unsupported == []
    fake = FakeQuantized(graph, calibrated.scheme, calibrated.ranges)
    runtime = registry.runtimes.build("onnx", {}, registry)
    path = tmp_path / "model.onnx"
    runtime.export(fake.convert(), SHAPE, path)
    assert runtime.convolutions(path) == (convolutions, convolutions)
    if adds_in_16_bits():
        pytest.skip("ONNX Runtime saturates sums of 8-bit products on this CPU")
    executed = torch.from_numpy(runtime.open(path, 1).run(images.numpy()))
    with torch.no_grad():
        noise = (model(images) - executed).square().sum()
        assert 10 * torch.log10(model(images).square().sum() / noise) > quality


def test_pruned_network_equals_the_masked_one(registry: Registry, make_context: Callable[..., Any]) -> None:
    """Zeroed hidden channels of a block with functional attention are pruned without effect."""
    model = HandWrittenMobileNetV3()
    warmed(model)
    dead = slice(0, 32)
    attention: Attention = model.se
    with torch.no_grad():
        for layer in (model.c1, model.n1, model.c2, model.n2, attention.up):
            layer.weight[dead] = 0
            if layer.bias is not None:
                layer.bias[dead] = 0
        attention.down.weight[:, dead] = 0
        model.c3.weight[:, dead] = 0
    images = torch.randn(4, *SHAPE)
    with torch.no_grad():
        masked = model(images)
    share = 1 - count_macs(model, images[:1]) ** -1  # the least possible step
    prune = registry.passes.build("prune", {"target_macs": share, "round_to": 32, "recalibrate": False}, registry)
    pruned = prune.apply(model, make_context(model))
    assert pruned.c1.out_channels == 32
    with torch.no_grad():
        torch.testing.assert_close(pruned(images), masked, rtol=1e-4, atol=1e-5)


def test_layers_that_cannot_be_pruned_are_reported_or_refused(
    registry: Registry, make_context: Callable[..., Any]
) -> None:
    told, model = Told(), Gelu().eval().requires_grad_(False)
    context = make_context(model, progress=told)
    options = {"target_macs": 0.8, "round_to": 4}
    pruned = registry.passes.build("prune", options, registry).apply(model, context)
    assert pruned.fixed.out_channels == 64
    assert pruned.first.out_channels < 16
    assert not any(parameter.requires_grad for parameter in pruned.parameters())  # as they came
    (line,) = told.lines
    assert line.startswith("prune: not pruned: fixed (without some of its channels the model fails: ")
    assert "shape '[-1, 64, 64]' is invalid" in line
    assert context.metrics["unpruned_layers"] == 1
    refusing = registry.passes.build("prune", {**options, "unsupported": "refuse"}, registry)
    with pytest.raises(MbcompressError, match=r"not pruned: fixed .*set 'unsupported: skip' to leave them as they are"):
        refusing.apply(model, context)


def test_reshapes_that_torch_pruning_would_follow_for_ever_are_one_sentence(
    registry: Registry, make_context: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Inception().eval()
    monkeypatch.setattr("mbcompress_prune.channels.LARGEST_MAPPING", 100)
    prune = registry.passes.build("prune", {"target_macs": 0.8}, registry)
    with pytest.raises(
        MbcompressError, match=r"^prune: torch-pruning cannot trace the model \(RecursionError: its resha"
    ):
        prune.apply(model, make_context(model))


def test_bn_scale_needs_batch_norm(registry: Registry, make_context: Callable[..., Any]) -> None:
    told, model = Told(), Gelu().eval()
    prune = registry.passes.build("prune", {"target_macs": 0.8, "criterion": "bn_scale"}, registry)
    with pytest.raises(MbcompressError, match=r"target_macs 0\.8 cannot be reached"):
        prune.apply(model, make_context(model, progress=told))
    assert "first (no BatchNorm follows)" in told.lines[0]


def test_layers_that_stay_in_float_are_reported_or_refused(
    registry: Registry, make_context: Callable[..., Any]
) -> None:
    told, model = Told(), Gelu().eval()
    context = make_context(model, progress=told)
    registry.passes.build("qat", {"training": {"epochs": 0}, "distillation": None}, registry).apply(model, context)
    assert "qat: stays in float: the model itself (gelu: no int8 support)" in told.lines  # without VNNI, not the first
    assert context.metrics["float_layers"] == 1
    refusing = registry.passes.build("qat", {"unsupported": "refuse"}, registry)
    with pytest.raises(MbcompressError, match=r"^qat: stays in float: .*'unsupported: skip'"):
        refusing.apply(model, context)


def test_a_model_that_cannot_be_captured_is_one_sentence(
    registry: Registry, make_context: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Moody().eval()
    with pytest.raises(MbcompressError, match=r"^qat: torch.export cannot capture the model \(.*\); its forward"):
        registry.passes.build("qat", {"training": {"epochs": 0}}, registry).apply(model, make_context(model))
    runtime = registry.runtimes.build("onnx", {}, registry)
    with pytest.raises(MbcompressError, match=r"^onnx: the model cannot be exported \(.*\)$"):
        runtime.export(model, SHAPE, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr() == ("", "")


def test_a_view_of_a_feature_map_survives_training_in_channels_last(
    registry: Registry, make_context: Callable[..., Any]
) -> None:
    model = Inception().eval()
    images = torch.randn(2, *SHAPE)
    with torch.no_grad():
        before = model(images)
    prepare_model(model, images)
    torch.testing.assert_close(model(images), before)
    context = make_context(model)
    options = TrainingConfig(epochs=1)
    assert fit(copy.deepcopy(model), context, options, label="t").scores[1].top1 > 0.3
    assert calibrate(canonical_graph(model, images, "test"), Scheme(), [images]).unsupported == []


def test_a_frozen_module_is_unfrozen_only_as_a_whole() -> None:
    whole, part = Gelu().requires_grad_(False), Gelu()
    part.first.requires_grad_(False)
    for model in (whole, part):
        prepare_model(model.eval(), torch.zeros(2, *SHAPE))
    assert all(parameter.requires_grad for parameter in whole.parameters())
    assert not part.first.weight.requires_grad
