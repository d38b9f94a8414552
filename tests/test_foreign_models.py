"""Modules of strangers through the whole chain, and what is said where a pass cannot handle them."""

import copy
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from foreign_models import Attention, Gelu, HandWrittenMobileNetV3, Inception, Moody, TensorFlowMobileNetV2
from mbcompress_onnx.lowering import fold_padding
from mbcompress_quantize.graph import FakeQuantized
from mbcompress_quantize.rewrites import simplify
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

import mbcompress
from mbcompress import MbcompressError, Progress
from mbcompress.admission import admit
from mbcompress.cli import main
from mbcompress.counting import count_macs
from mbcompress.host import Catalogue
from mbcompress.training import fit, label_loss

SHAPE = (3, 32, 32)


class Told(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def warmed(model: nn.Module) -> nn.Module:
    """With BatchNorm statistics of noise, in eval mode."""
    torch.manual_seed(0)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(32, *SHAPE))
    return model.eval()


# --- the whole chain -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tensorflow_net(catalogue: Catalogue, digits: Any) -> TensorFlowMobileNetV2:
    """MobileNetV2 at width 0.25 in TensorFlow's manner, trained on digits for six epochs, BatchNorm folded."""
    from mbcompress.context import Context

    torch.manual_seed(0)
    model = TensorFlowMobileNetV2(head=256)
    options = catalogue.passes.build(
        "train", {"epochs": 6, "lr": 0.1, "schedule": "one_cycle", "crop_padding": 0, "norm_momentum": 0.3}, catalogue
    )
    fit(model, Context(digits.development(), model, SHAPE, torch.device("cpu"), 0), options, label_loss(options), "t")
    return model.eval().fold()


def test_tensorflow_style_mobilenet_v2_through_the_whole_chain(
    tensorflow_net: TensorFlowMobileNetV2, digits: Any, tmp_path: Path
) -> None:
    before = copy.deepcopy(tensorflow_net.state_dict())
    passes = [
        {"prune": {"target_macs": 0.7}},
        {"distill": {"epochs": 2, "lr": 0.02, "crop_padding": 0}},
        {"qat": {"epochs": 1, "crop_padding": 0}},
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
    prune, _, qat = (step["metrics"] for step in report["steps"])
    assert prune["unpruned_layers"] == qat["float_layers"] == 0
    for name in ("baseline.onnx", "model.onnx"):
        kinds = {node.op_type for node in onnx.load(tmp_path / "run" / name).graph.node}
        assert not kinds & {"Pad", "ReduceMean"} - ({"ReduceMean"} if name == "baseline.onnx" else set())


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, float]] = {
    "h-swish and attention by hand": (HandWrittenMobileNetV3, 7, 30),
    "concatenation and max pooling": (Inception, 3, 30),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_convolution_becomes_an_integer_one(catalogue: Catalogue, tmp_path: Path, name: str) -> None:
    build, convolutions, quality = NETWORKS[name]
    model, images = warmed(build()), torch.randn(64, *SHAPE)
    fake = FakeQuantized(model, images[:2], observed_steps=0)
    assert fake.float_layers == []
    fake.calibrate([images])
    runtime = catalogue.runtimes.build("onnx", {}, catalogue)
    path = tmp_path / "model.onnx"
    runtime.export(fake.convert(), SHAPE, path)
    assert runtime.convolutions(path) == (convolutions, convolutions)
    executed = torch.from_numpy(runtime.open(path, 1).run(images.numpy()))
    with torch.no_grad():
        noise = (model(images) - executed).square().sum()
        assert 10 * torch.log10(model(images).square().sum() / noise) > quality


# --- rewrites of a captured graph ------------------------------------------------------------------------------------

SPELLINGS: dict[str, tuple[Callable[[Tensor], Tensor], set[str]]] = {
    "relu6": (F.relu6, {"hardtanh"}),
    "clamp": (lambda x: torch.clamp(x, 0, 6), {"hardtanh"}),
    "clamp by name": (lambda x: x.clamp(min=0.0, max=6.0), {"hardtanh"}),
    "relu and a ceiling": (lambda x: F.relu(x).clamp(max=6), {"hardtanh"}),
    "clamp_min": (lambda x: x.clamp_min(0), {"relu"}),
    "clamps that swallow each other": (lambda x: x.clamp(0, 1).clamp(2, 3), {"hardtanh"}),
    "h-swish": (lambda x: x * F.relu6(x + 3) / 6, {"hardsigmoid", "mul"}),
    "h-swish, gate first": (lambda x: F.relu6(x + 3) / 6 * x, {"hardsigmoid", "mul"}),
    "h-swish by a product": (lambda x: x * ((3 + x).clamp(0, 6) * (1 / 6)), {"hardsigmoid", "mul"}),
    "h-swish of torch": (F.hardswish, {"hardsigmoid", "mul"}),
    "not quite h-swish": (lambda x: x * F.relu6(x + 2) / 6, {"add", "hardtanh", "mul", "div"}),
    "silu": (F.silu, {"sigmoid", "mul"}),
    "mean": (lambda x: x.mean((2, 3)), {"adaptive_avg_pool2d", "flatten"}),
    "mean from the end": (lambda x: x.mean([-1, -2], keepdim=True), {"adaptive_avg_pool2d"}),
    "mean in two steps": (lambda x: x.mean(2).mean(2), {"adaptive_avg_pool2d", "flatten"}),
    "mean of the flattened": (lambda x: x.flatten(2).mean(-1), {"adaptive_avg_pool2d", "flatten"}),
    "window of the whole map": (lambda x: F.avg_pool2d(x, 8), {"adaptive_avg_pool2d"}),
    "mean of something else": (lambda x: x.mean((1, 3)), {"mean"}),
    "mean over width alone": (lambda x: x.mean(3).mean(1), {"mean"}),
    "view": (lambda x: x.view(x.shape[0], -1), {"reshape"}),
    "dropout": (lambda x: F.dropout(x, 0.5, training=False) + 1, {"add"}),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_one_spelling_for_each_operation(name: str) -> None:
    function, operators = SPELLINGS[name]

    class Network(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    batch = ({0: torch.export.Dim.DYNAMIC},)
    images = 5 * torch.randn(3, 4, 8, 8)
    exported = torch.export.export(Network(), (images[:2],), dynamic_shapes=batch)
    graph: Any = exported.module(check_guards=False)
    simplify(graph)
    calls = {str(node.target).split(".")[1] for node in graph.graph.nodes if "aten" in str(node.target)}
    assert calls - {"sym_size"} == operators
    torch.testing.assert_close(graph(images), function(images))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_same_padding_becomes_numbers(kernel: int) -> None:
    layer = nn.Conv2d(3, 4, kernel, padding="same", dilation=1 if kernel == 2 else 2)
    images = torch.randn(2, 3, 9, 9)
    graph: Any = torch.export.export(layer, (images,)).module(check_guards=False)
    simplify(graph)
    assert "conv2d.padding" not in str(graph.graph)
    torch.testing.assert_close(graph(images), layer(images))


# --- padding in ONNX -------------------------------------------------------------------------------------------------


def padded_convolution(pads: list[int], value: float = 0.0, mode: str = "constant", after: float = 0.05) -> Any:
    """DequantizeLinear -> Pad -> QuantizeLinear -> DequantizeLinear -> Conv, the last two with scale `after`."""
    generator = np.random.default_rng(0)
    constants = {
        "scale": np.float32(0.05),
        "zero": np.uint8(117),
        "after": np.float32(after),
        "pads": np.array(pads, np.int64),
        "value": np.float32(value),
        "weight": generator.normal(size=(4, 2, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["real"]),
        helper.make_node("Pad", ["real", "pads", "value"], ["padded"], mode=mode),
        helper.make_node("QuantizeLinear", ["padded", "after", "zero"], ["steps"]),
        helper.make_node("DequantizeLinear", ["steps", "after", "zero"], ["again"]),
        helper.make_node("Conv", ["again", "weight"], ["y"], strides=[2, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "padded",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 2, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def run_onnx(model: Any) -> Any:
    images = np.random.default_rng(1).integers(0, 256, (1, 2, 8, 8), np.uint8)
    return ReferenceEvaluator(model).run(None, {"x": images})[0]


def test_padding_between_integers_goes_into_the_convolution_exactly() -> None:
    model = padded_convolution([0, 0, 0, 0, 0, 0, 1, 1])  # below and to the right, as TensorFlow pads
    before = run_onnx(model)
    fold_padding(model)
    assert [node.op_type for node in model.graph.node] == ["DequantizeLinear", "Conv"]
    np.testing.assert_array_equal(run_onnx(model), before)


KEPT: dict[str, dict[str, Any]] = {
    "with ones": {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "value": 1.0},
    "with the image mirrored": {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "mode": "reflect"},
    "a crop": {"pads": [0, 0, -1, -1, 0, 0, 0, 0]},
    "to another scale": {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "after": 0.06},
}


@pytest.mark.parametrize("case", KEPT)
def test_other_padding_stays(case: str) -> None:
    model = padded_convolution(**KEPT[case])
    before = model.SerializeToString()
    fold_padding(model)
    assert model.SerializeToString() == before


# --- pruning ---------------------------------------------------------------------------------------------------------


def test_pruned_stranger_equals_the_masked_one(catalogue: Catalogue, make_context: Callable[..., Any]) -> None:
    """Half of the hidden channels of a block with functional attention are zeroed; they must go, without effect."""
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
    prune = catalogue.passes.build("prune", {"target_macs": share, "round_to": 32, "recalibrate": False}, catalogue)
    pruned = prune.apply(model, make_context(model))
    assert pruned.c1.out_channels == 32
    with torch.no_grad():
        torch.testing.assert_close(pruned(images), masked, rtol=1e-4, atol=1e-5)


def test_layers_that_cannot_be_pruned_are_told_or_refused(
    catalogue: Catalogue, make_context: Callable[..., Any]
) -> None:
    told, model = Told(), Gelu().eval().requires_grad_(False)
    context = make_context(model, progress=told)
    options = {"target_macs": 0.8, "round_to": 4}
    pruned = catalogue.passes.build("prune", options, catalogue).apply(model, context)
    assert pruned.fixed.out_channels == 64
    assert pruned.first.out_channels < 16
    assert not any(parameter.requires_grad for parameter in pruned.parameters())  # as they came
    (line,) = told.lines
    assert line.startswith("prune: keeps all channels: fixed (without some of its channels the model fails: ")
    assert "shape '[-1, 64, 64]' is invalid" in line
    assert context.metrics["unpruned_layers"] == 1
    refusing = catalogue.passes.build("prune", {**options, "unsupported": "refuse"}, catalogue)
    with pytest.raises(MbcompressError, match=r"keeps all channels: fixed .*'unsupported: skip' would leave them so"):
        refusing.apply(model, context)


def test_reshapes_that_torch_pruning_would_follow_for_ever_are_one_sentence(
    catalogue: Catalogue, make_context: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Inception().eval()
    monkeypatch.setattr("mbcompress_prune.channels.LARGEST_MAPPING", 100)
    prune = catalogue.passes.build("prune", {"target_macs": 0.8}, catalogue)
    with pytest.raises(
        MbcompressError, match=r"^prune: torch-pruning cannot trace the model \(RecursionError: its resha"
    ):
        prune.apply(model, make_context(model))


def test_bn_scale_needs_batch_norm(catalogue: Catalogue, make_context: Callable[..., Any]) -> None:
    told, model = Told(), Gelu().eval()
    prune = catalogue.passes.build("prune", {"target_macs": 0.8, "criterion": "bn_scale"}, catalogue)
    with pytest.raises(MbcompressError, match=r"target_macs 0\.8 cannot be reached"):
        prune.apply(model, make_context(model, progress=told))
    assert "first (no BatchNorm follows)" in told.lines[0]


# --- quantization and export -----------------------------------------------------------------------------------------


def test_layers_that_stay_in_float_are_told_or_refused(catalogue: Catalogue, make_context: Callable[..., Any]) -> None:
    told, model = Told(), Gelu().eval()
    context = make_context(model, progress=told)
    catalogue.passes.build("qat", {"epochs": 0, "teacher": None}, catalogue).apply(model, context)
    assert told.lines == ["qat: stays in float: the network itself (gelu: no int8 form)"]
    assert context.metrics["float_layers"] == 1
    refusing = catalogue.passes.build("qat", {"unsupported": "refuse"}, catalogue)
    with pytest.raises(MbcompressError, match=r"^qat: stays in float: .*'unsupported: skip'"):
        refusing.apply(model, context)


def test_a_model_that_cannot_be_captured_is_one_sentence(
    catalogue: Catalogue, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    model = Moody().eval()
    with pytest.raises(MbcompressError, match=r"^qat: torch.export cannot capture the model \(.*\); its forward"):
        catalogue.passes.build("qat", {"epochs": 0}, catalogue).apply(model, make_context(model))
    runtime = catalogue.runtimes.build("onnx", {}, catalogue)
    with pytest.raises(MbcompressError, match=r"^onnx: the model cannot be exported \(.*\)$"):
        runtime.export(model, SHAPE, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


# --- admission -------------------------------------------------------------------------------------------------------


def test_a_view_of_a_feature_map_survives_training_in_channels_last(
    catalogue: Catalogue, make_context: Callable[..., Any]
) -> None:
    model = Inception().eval()
    images = torch.randn(2, *SHAPE)
    with torch.no_grad():
        before = model(images)
    admit(model, images)
    torch.testing.assert_close(model(images), before)
    context = make_context(model)
    options = catalogue.passes.build("train", {"epochs": 1}, catalogue)
    assert fit(copy.deepcopy(model), context, options, label_loss(options), "t").scores[1].top1 > 0.3
    assert FakeQuantized(model, images, 0).float_layers == []


def test_a_frozen_module_is_unfrozen_only_as_a_whole() -> None:
    whole, part = Gelu().requires_grad_(False), Gelu()
    part.first.requires_grad_(False)
    for model in (whole, part):
        admit(model.eval(), torch.zeros(2, *SHAPE))
    assert all(parameter.requires_grad for parameter in whole.parameters())
    assert not part.first.weight.requires_grad


# --- models by name --------------------------------------------------------------------------------------------------

HERE = "foreign_models"


def python_model(target: str, **options: Any) -> dict[str, Any]:
    return {"source": "python", "target": target, "num_classes": 10, "input_size": 32, **options}


def test_a_python_target_is_built_with_its_args_and_weights(catalogue: Catalogue, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = HandWrittenMobileNetV3(classes=7)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    spec = python_model(f"{HERE}:HandWrittenMobileNetV3", args={"classes": 7}, num_classes=7)
    source = catalogue.build_model({**spec, "weights": str(tmp_path / "w.safetensors")})
    assert source.input_shape == SHAPE
    loaded = source.load()
    assert not loaded.training
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in model.state_dict().items())


BAD_AT_VALIDATION = {
    "form": ("Net", r"target: must be 'package\.module:callable', got 'Net'"),
    "module": ("foreign_model:Gelu", r"there is no module 'foreign_model' .*; did you mean 'foreign_models'\?"),
    "submodule": ("json.decode:X", r"there is no module 'json\.decode' in package 'json'; did you mean 'decoder'\?"),
    "attribute": (
        f"{HERE}:Gelo",
        r"module 'foreign_models' \(.*foreign_models\.py\) has no 'Gelo'; did you mean 'Gelu'",
    ),
}


@pytest.mark.parametrize("case", BAD_AT_VALIDATION)
def test_a_wrong_target_is_refused_before_anything_runs(catalogue: Catalogue, case: str) -> None:
    target, message = BAD_AT_VALIDATION[case]
    with pytest.raises(MbcompressError, match=message):
        catalogue.build_model(python_model(target))


@pytest.fixture
def strange_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module whose source does not tell what it holds, in the current directory."""
    source = """
        from torch import nn
        globals()["made"] = lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
        number = 3
        def text(): return "no module"
        def fails(size): return {}[size]
        def narrow(): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
        def picky(): return nn.Linear(5, 10)
        def __getattr__(name): raise AttributeError(name)
    """
    (tmp_path / "strange_net.py").write_text(textwrap.dedent(source))
    (tmp_path / "broken_net.py").write_text("import nothing_of_that_name\nNet = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("strange_net", "broken_net"):
        monkeypatch.setitem(sys.modules, name, None)  # so that undoing removes what is imported
        del sys.modules[name]
    return "strange_net"


BAD_AT_LOAD = {
    "import fails": (
        "broken_net:Net",
        {},
        r"importing broken_net raised ModuleNotFoundError: No module named 'noth.*:1\)$",
    ),
    "attribute": ("strange_net:mode", {}, r"^strange_net:mode: there is no 'mode'; did you mean 'made'\?$"),
    "not callable": ("strange_net:number", {}, r"must be callable, got 3$"),
    "not a module": ("strange_net:text", {}, r"must return an nn\.Module, got str$"),
    "args": (
        "strange_net:fails",
        {"sizes": 1},
        r"cannot be called with these args: missing a required argument: 'size'",
    ),
    "raises": ("strange_net:fails", {"size": 1}, r"^strange_net:fails: raised KeyError: 1 \(strange_net\.py:6\)$"),
    "classes": ("strange_net:narrow", {}, r"must return logits of shape \(2, 10\) here, got \(2, 4\)$"),
    "images": ("strange_net:picky", {}, r"the module cannot run on images of 3x32x32 \(RuntimeError: mat1 and mat2"),
}


@pytest.mark.parametrize("case", BAD_AT_LOAD)
def test_a_target_that_fails_is_one_sentence(catalogue: Catalogue, strange_module: str, case: str) -> None:
    target, args, message = BAD_AT_LOAD[case]
    source = catalogue.build_model(python_model(target, args=args))
    with pytest.raises(MbcompressError, match=message) as error:
        source.load()
    assert "\n" not in str(error.value)


def test_what_a_module_makes_at_run_time_is_found(catalogue: Catalogue, strange_module: str) -> None:
    assert isinstance(catalogue.build_model(python_model("strange_net:made")).load(), nn.Module)


def test_validation_does_not_run_the_module_and_finds_it_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "own" / "net.py").write_text("class Net: ...\nraise SystemExit('imported')\n")
    model = "{source: python, target: 'own.net:Net', num_classes: 10, input_size: 32}"
    (tmp_path / "r.yaml").write_text(f"model: {model}\ndata: {{name: digits}}\npasses: []\n")
    command = [
        sys.executable,
        "-c",
        "import sys; from mbcompress.cli import main; sys.exit(main())",
        "validate",
        "r.yaml",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("r.yaml: fine: python")


# --- torchvision and timm --------------------------------------------------------------------------------------------

STAND_INS = {
    "timm": """
        from torch import nn
        def list_models(): return ["mobilenetv1_100", "mobilenetv4_conv_small"]
        def list_pretrained(): return ["mobilenetv1_100.ra4_e3600_r224_in1k"]
        def create_model(name, pretrained, num_classes, in_chans, wide=False):
            assert not pretrained
            if wide: raise ValueError("no wide one")
            return nn.Sequential(nn.Conv2d(in_chans, 8, 3), nn.Flatten(), nn.Linear(8 * 30 * 30, num_classes))
    """,
    "torchvision.models": """
        from torch import nn
        def list_models(module=None): return ["mobilenet_v2", "mobilenet_v3_small"]
        def get_model(name, weights, num_classes):
            assert weights is None
            return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 30 * 30, num_classes))
    """,
}


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for timm and torchvision, on the path of Python."""
    for name, source in STAND_INS.items():
        path = tmp_path / name.replace(".", "/")
        path.mkdir(parents=True)
        (path / "__init__.py").write_text(textwrap.dedent(source))
    (tmp_path / "torchvision" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("timm", "torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, None)  # so that undoing removes what is imported
        del sys.modules[name]


@pytest.mark.parametrize(("source", "architecture"), [("timm", "mobilenetv1_100"), ("torchvision", "mobilenet_v2")])
@pytest.mark.usefixtures("hubs")
def test_an_architecture_by_name(catalogue: Catalogue, tmp_path: Path, source: str, architecture: str) -> None:
    from safetensors.torch import save_file

    spec = {"source": source, "architecture": architecture, "num_classes": 5, "input_size": 32}
    unpretrained = catalogue.build_model(spec)
    assert not unpretrained.pretrained
    model = unpretrained.load()
    assert model(torch.zeros(2, *SHAPE)).shape == (2, 5)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    again = catalogue.build_model({**spec, "weights": tmp_path / "w.safetensors"})
    assert again.pretrained
    assert torch.equal(again.load()[0].weight, model[0].weight)
    with pytest.raises(MbcompressError, match=r"'download' and 'weights' exclude each other"):
        catalogue.build_model({**spec, "weights": tmp_path / "w.safetensors", "download": True})


@pytest.mark.usefixtures("hubs")
def test_wrong_architectures_are_one_sentence(catalogue: Catalogue) -> None:
    spec = {"source": "timm", "num_classes": 5, "input_size": 32}
    with pytest.raises(MbcompressError, match=r"^model: timm has no architecture 'mobilenetv4'; did you mean 'mobilen"):
        catalogue.build_model({**spec, "architecture": "mobilenetv4"}).load()
    failing = catalogue.build_model({**spec, "architecture": "mobilenetv1_100", "args": {"wide": True}})
    with pytest.raises(MbcompressError, match=r"timm cannot build 'mobilenetv1_100' \(ValueError: no wide one\)$"):
        failing.load()


def test_a_build_for_another_torch_is_one_sentence(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    source = catalogue.build_model({"source": "torchvision", "architecture": "mobilenet_v2", "num_classes": 5})
    with pytest.raises(
        MbcompressError, match=r"torchvision cannot be imported beside this torch \(RuntimeError: opera"
    ):
        source.load()


@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_a_missing_extra_is_named_when_the_recipe_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == source else found(name, *rest))
    path = tmp_path / "r.yaml"
    path.write_text(
        f"model: {{source: {source}, architecture: mobilenet_v2, num_classes: 10}}\ndata: {{name: digits}}\npasses: []\n"
    )
    assert main(["validate", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.endswith(f"{source} is not installed; it comes with `pip install mbcompress[{source}]`\n")
    assert error.count("\n") == 1
