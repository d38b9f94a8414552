"""What a run has written comes back: the same numbers after every pass, nothing from files that were changed."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from foreign_models import HandWrittenMobileNetV3, Inception, TensorFlowMobileNetV2
from round_trip import FLOAT, INT8, SHAPE, Net, described, difference, noise, refused
from torch import Tensor, nn
from torch.nn.utils import parametrize

import mbcompress
from mbcompress.checkpoint.manifest import write_manifest
from mbcompress.checkpoint.saving import save_pass
from mbcompress.contract.context import Context
from mbcompress.data.splits import Images
from mbcompress.graph import count_macs, count_parameters
from mbcompress.registry.discovery import Registry

SOURCES = {
    "mobilenet_v1": {"source": "mobilenet_v1"},
    "mobilenet_v2": {"source": "mobilenet_v2"},
    "mobilenet_v3_small": {"source": "mobilenet_v3_small"},
}
CHAIN: dict[str, dict[str, Any]] = {
    "train": {"training": {"epochs": 1}},
    "prune": {"target_macs": 0.7},
    "distill": {"training": {"epochs": 1}},
    "qat": {"training": {"epochs": 1}},
}


@pytest.fixture(scope="module", params=SOURCES)
def chain(
    request: pytest.FixtureRequest, registry: Registry, digits: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[nn.Module, Path]]:
    """The model after each built-in pass, and where it was written."""
    torch.manual_seed(0)
    source = registry.build_model({**SOURCES[request.param], "num_classes": 10, "width": 0.25, "input_size": 32})
    model = source.load()
    few = Images(digits.train.pixels[:128], digits.train.labels[:128])
    context = Context(replace(digits, train=few).development(), source.load(), SHAPE, torch.device("cpu"), 0)
    directory = tmp_path_factory.mktemp(request.param)
    stages = {}
    for number, (name, options) in enumerate(CHAIN.items(), start=1):
        step = registry.passes.build(name, options, registry)
        model = step.apply(model, context).eval()
        path = directory / "passes" / f"{number:02}-{name}"
        save_pass(path, {"name": name}, model, SHAPE, INT8 if name == "qat" else FLOAT, source)
        # the next pass may go on with the model itself
        stages[name] = model if name == "qat" else copy.deepcopy(model), path
    write_manifest(directory)
    return stages


@pytest.mark.parametrize("name", CHAIN)
def test_every_pass_comes_back_to_the_last_bit(chain: dict[str, tuple[nn.Module, Path]], name: str) -> None:
    model, path = chain[name]
    random = torch.get_rng_state()
    loaded = mbcompress.load(path)
    assert torch.equal(random, torch.get_rng_state())
    assert difference(model, loaded) == 0
    assert count_parameters(loaded) == count_parameters(model)
    assert count_macs(loaded, noise(1)) == count_macs(model, noise(1))
    assert (type(loaded) is type(model)) == (name != "qat")
    assert not loaded.training


@pytest.mark.parametrize("chain", ["mobilenet_v3_small"], indirect=True)  # the one with every kind of operator
def test_int8_gives_the_same_onnx_outputs(
    chain: dict[str, tuple[nn.Module, Path]], registry: Registry, tmp_path: Path
) -> None:
    model, path = chain["qat"]
    runtime = registry.runtimes.build("onnx", {}, registry)
    answers = []
    for name, each in (("written.onnx", model), ("loaded.onnx", mbcompress.load(path.parent.parent))):
        runtime.export(each, SHAPE, tmp_path / name)
        answers.append(runtime.open(tmp_path / name, 1).run(noise().numpy()))
    assert (answers[0] == answers[1]).all()
    count = runtime.convolutions(tmp_path / "loaded.onnx")
    assert count.int8 == count.total >= 27


def test_a_loaded_float_model_can_be_trained_and_pruned_again(
    chain: dict[str, tuple[nn.Module, Path]], registry: Registry, make_context: Callable[..., Any]
) -> None:
    loaded = mbcompress.load(chain["prune"][1])
    loaded.train()(noise()).square().mean().backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())
    prune = registry.passes.build("prune", {"target_parameters": 0.9}, registry)
    smaller = prune.apply(loaded.eval(), make_context(loaded))
    assert count_parameters(smaller) <= 0.9 * count_parameters(loaded)


FOREIGN = {"tensorflow": TensorFlowMobileNetV2, "hand-written": HandWrittenMobileNetV3, "concatenating": Inception}


@pytest.mark.parametrize("name", FOREIGN)
def test_modules_of_strangers_come_back_without_their_class(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = FOREIGN[name]().eval()
    save_pass(tmp_path / "step", {}, model, SHAPE, FLOAT, None)
    assert {"form": "graph", "source": None}.items() <= described(tmp_path / "step").items()
    loaded = mbcompress.load(tmp_path / "step")
    assert difference(model, loaded) == 0
    assert count_parameters(loaded) == count_parameters(model)
    again = mbcompress.load(tmp_path / "step", model=FOREIGN[name]())
    assert type(again) is FOREIGN[name]
    assert difference(model, again) == 0


def test_constants_and_shared_tensors(tmp_path: Path) -> None:
    model = Net().eval()
    save_pass(tmp_path / "step", {}, model, SHAPE, FLOAT, None)
    assert "gain" in described(tmp_path / "step")["constants"]
    assert difference(model, mbcompress.load(tmp_path / "step")) == 0
    assert difference(model, mbcompress.load(tmp_path / "step", model=Net())) == 0


class Mask(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", (weight.abs() > weight.abs().median()).float())

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


@pytest.mark.parametrize("source", ["mobilenet_v2", None])
def test_masks_come_back(tiny_model: Callable[..., Any], registry: Registry, tmp_path: Path, source: str) -> None:
    model = tiny_model("mobilenet_v2")
    for module in list(model.modules()):
        if isinstance(module, nn.Conv2d):
            parametrize.register_parametrization(module, "weight", Mask(module.weight))
    spec = {"source": source, "num_classes": 10, "width": 0.25, "input_size": 32}
    save_pass(tmp_path / "step", {}, model, SHAPE, FLOAT, registry.build_model(spec) if source else None)
    loaded = mbcompress.load(tmp_path / "step")
    assert difference(model, loaded) == 0
    masks = [name for name in loaded.state_dict() if name.endswith(".mask")]
    assert len(masks) == 52


def test_zeroed_weights_come_back_as_zeros(tiny_model: Callable[..., Any], registry: Registry, tmp_path: Path) -> None:
    model = tiny_model("mobilenet_v1")
    weight = model.features[0][0].weight
    weight.data[weight.abs() < weight.abs().median()] = 0
    spec = {"source": "mobilenet_v1", "num_classes": 10, "width": 0.25, "input_size": 32}
    save_pass(tmp_path / "step", {}, model, SHAPE, FLOAT, registry.build_model(spec))
    loaded = mbcompress.load(tmp_path / "step")
    assert torch.equal(loaded.state_dict()["features.0.0.weight"], weight)
    assert int((weight == 0).sum()) > 100


def test_a_source_whose_layers_were_exchanged_is_stored_as_a_graph(
    tiny_model: Callable[..., Any], registry: Registry, tmp_path: Path
) -> None:
    """Same keys, same shapes, another function: only comparing outputs finds it."""
    model = tiny_model("mobilenet_v2")
    model.features[0][2] = nn.Hardswish()
    spec = {"source": "mobilenet_v2", "num_classes": 10, "width": 0.25, "input_size": 32}
    save_pass(tmp_path / "step", {}, model, SHAPE, FLOAT, registry.build_model(spec))
    assert described(tmp_path / "step")["form"] == "graph"
    assert difference(model, mbcompress.load(tmp_path / "step")) == 0


def test_a_module_that_cannot_be_captured_needs_its_class(tmp_path: Path) -> None:
    model = Net(undecided=True).eval()
    save_pass(tmp_path / "step", {}, model, SHAPE, FLOAT, None)
    assert described(tmp_path / "step")["form"] == "module"
    assert "step: needs the module that was compressed, as in load(path, model=MyNet()): " in refused(tmp_path / "step")
    assert difference(model, mbcompress.load(tmp_path / "step", model=Net())) == 0
    assert "does not fit the Inception in model=" in refused(tmp_path / "step", Inception())


def test_a_pruned_module_comes_back_in_its_class(
    registry: Registry, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = TensorFlowMobileNetV2().eval()
    prune = registry.passes.build("prune", {"target_parameters": 0.8}, registry)
    pruned = prune.apply(model, make_context(model))
    save_pass(tmp_path / "step", {}, pruned, SHAPE, FLOAT, None)
    template = TensorFlowMobileNetV2()
    before = {name: value.shape for name, value in template.state_dict().items()}
    loaded = mbcompress.load(tmp_path / "step", model=template)
    assert type(loaded) is TensorFlowMobileNetV2
    assert difference(pruned, loaded) == 0
    assert {name: value.shape for name, value in template.state_dict().items()} == before  # it was copy_model
    assert count_parameters(loaded) < count_parameters(model)


class Elsewhere(mbcompress.ModelSource):
    """A source that must not be asked again: it may run code that its options name."""

    name: ClassVar[str] = "elsewhere"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return SHAPE

    def load(self) -> nn.Module:
        raise AssertionError


def test_sources_that_cannot_be_built_again_are_not_asked(tmp_path: Path) -> None:
    model = Net().eval()
    save_pass(tmp_path / "step", {}, model, SHAPE, FLOAT, Elsewhere(num_classes=10))
    assert described(tmp_path / "step")["source"] == {"source": "elsewhere", "num_classes": 10}
    assert difference(model, mbcompress.load(tmp_path / "step")) == 0


def test_writing_leaves_the_model_as_it_is(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    model = tiny_model("mobilenet_v1").to(memory_format=torch.channels_last)
    strides = [parameter.stride() for parameter in model.parameters()]
    save_pass(tmp_path / "step", {}, model, SHAPE, FLOAT, None)
    assert [parameter.stride() for parameter in model.parameters()] == strides
