"""Unstructured pruning: which weights go and when, and that their zeros are still there in the exported file."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from mbcompress_sparsify.layers import find_layers
from mbcompress_sparsify.masks import GradualZeros, Selection, set_zeros
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError
from torch import Tensor, nn

from mbcompress import Progress, Trait, WeightCount
from mbcompress.cache.checkpoints import CheckpointFolder
from mbcompress.contract.checkpoints import Checkpoints
from mbcompress.contract.training import TrainingConfig
from mbcompress.data.splits import Images
from mbcompress.registry.discovery import Registry
from mbcompress.training import Batch, CrossEntropy, KeepZeros, TrainerState, cubic_sparsity, fit

SMALL = "mobilenet_v1"
SPARSE = frozenset({Trait.FLOAT, Trait.SPARSE})
BATCH, STEPS = 32, 4  # of BATCH in the training images of `few`


class Net(nn.Module):
    """A first layer, a 1x1 convolution, a depthwise one, a 3x3 one and a classifier."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(3, channels, 3, 2)
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.Conv2d(channels, channels, 3, groups=channels),
            nn.ReLU(),
            nn.Conv2d(channels, 10, 3, 2),
        )
        self.unused = nn.Linear(4, 4)
        self.head = nn.Linear(10, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(self.first(images)).mean((2, 3)))
        return logits


PRUNED = ["body.2.weight", "body.5.weight", "head.weight"]
EXAMPLE = torch.zeros(2, 3, 32, 32)


def zeros(model: nn.Module, names: list[str]) -> list[int]:
    return [int((model.get_parameter(name) == 0).sum()) for name in names]


def few(context: Any, **changes: Any) -> Any:
    """A context with 4 batches of training images."""
    train = Images(context.data.train.pixels[: BATCH * STEPS], context.data.train.labels[: BATCH * STEPS])
    return replace(context, data=replace(context.data, train=train), **changes)


def build(registry: Registry, name: str = "sparsify", training: dict[str, Any] | None = None, **options: Any) -> Any:
    return registry.passes.build(name, {"training": training or {}, **options}, registry)


def test_which_layers_are_pruned() -> None:
    found = find_layers(Net().eval(), EXAMPLE, depthwise=False, group=None)
    assert found.pruned == PRUNED
    assert found.every == ["first.weight", "body.2.weight", "body.3.weight", "body.5.weight", "head.weight"]
    assert "body.3.weight" in find_layers(Net().eval(), EXAMPLE, depthwise=True, group=None).pruned
    grouped = find_layers(Net().eval(), EXAMPLE, depthwise=True, group=4)
    assert grouped.pruned == ["body.2.weight", "body.5.weight"]
    assert grouped.dense == [
        "body.3 (1 input channel, not a multiple of 4)",
        "head (10 input channels, not a multiple of 4)",
    ]


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.85, 0.999])
def test_each_layer_loses_its_smallest(sparsity: float) -> None:
    model = Net()
    before = {name: model.get_parameter(name).detach().clone() for name in PRUNED}
    set_zeros(model, PRUNED, Selection("layer"), sparsity)
    for name, weight in before.items():
        sizes = weight.abs().flatten()
        count = min(round(sparsity * len(sizes)), len(sizes) - 1)
        threshold = sizes.sort().values[count]
        expected = torch.where(weight.abs() < threshold, 0.0, weight)
        assert torch.equal(model.get_parameter(name), expected)
        assert zeros(model, [name]) == [count]


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.85, 0.999])
def test_all_layers_compete(sparsity: float) -> None:
    model = Net()
    before = {name: model.get_parameter(name).detach().clone() for name in PRUNED}
    set_zeros(model, PRUNED, Selection("global"), sparsity)
    everything = torch.cat([weight.flatten() for weight in before.values()])
    count = min(round(sparsity * len(everything)), len(everything) - len(PRUNED))
    assert sum(zeros(model, PRUNED)) == count
    largest = max(float(before[name][model.get_parameter(name) == 0].abs().max()) for name in PRUNED)
    for name, weight in before.items():
        now = model.get_parameter(name).detach()
        kept = now[now != 0].abs()
        assert torch.equal(now[now != 0], weight[now != 0])
        assert float(kept.min()) >= largest or (len(kept) == 1 and float(kept) == float(weight.abs().max()))


def test_a_layer_of_small_weights_keeps_its_largest() -> None:
    model = Net()
    with torch.no_grad():
        model.head.weight.mul_(1e-6)
    set_zeros(model, PRUNED, Selection("global"), 0.5)
    assert zeros(model, ["head.weight"]) == [99]


@pytest.mark.parametrize(("kept", "group"), [(2, 4), (4, 8)])
def test_n_of_m_along_the_input_channels(kept: int, group: int) -> None:
    model, names = Net(), ["body.2.weight", "body.5.weight"]
    before = {name: model.get_parameter(name).detach().clone() for name in names}
    set_zeros(model, names, Selection("layer", kept, group), 0.5)
    for name, weight in before.items():
        outputs, inputs, height, width = weight.shape
        expected = weight.clone()
        for o in range(outputs):
            for y in range(height):
                for x in range(width):
                    for start in range(0, inputs, group):
                        four = expected[o, start : start + group, y, x]
                        four[four.abs().argsort()[: group - kept]] = 0
        assert torch.equal(model.get_parameter(name), expected)


def test_zeros_come_first_and_stay() -> None:
    model = Net()
    weight = model.get_parameter("body.2.weight")
    chosen = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    with torch.no_grad():
        weight[chosen] = 0
    set_zeros(model, PRUNED, Selection(), 0.2)  # fewer than there are
    assert torch.equal(weight == 0, chosen)
    set_zeros(model, PRUNED, Selection(), 0.4)
    assert bool((weight == 0)[chosen].all())
    assert zeros(model, ["body.2.weight"]) == [round(0.4 * weight.numel())]


def test_the_schedule_is_cubic_sparsity() -> None:
    final, begin, count, between = 0.8, 0, 6, 10  # s_f, t_0, n and delta t of equation 1, with s_i = 0
    for t in range(0, 61, between):
        expected = final + (0 - final) * (1 - (t - begin) / (count * between)) ** 3
        assert cubic_sparsity(final, t, count * between) == pytest.approx(expected)
    assert cubic_sparsity(final, 1000, 60) == final


def test_zeros_grow_by_the_schedule_and_nothing_comes_back() -> None:
    model = Net()
    rule = GradualZeros(PRUNED, PRUNED, Selection(), 0.8, ramp=0.5, interval=5)
    rule.on_train_start(model, TrainerState(1, 0, 40))
    assert not rule.target_reached
    sizes = [model.get_parameter(name).numel() for name in PRUNED]
    gone = {name: torch.zeros_like(model.get_parameter(name), dtype=torch.bool) for name in PRUNED}
    for step in range(1, 41):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.01 * torch.randn(parameter.shape)
        rule.on_train_batch_end(model, TrainerState(1, step, 40))
        reached = cubic_sparsity(0.8, step - step % 5, 20)
        assert zeros(model, PRUNED) == [round(reached * size) for size in sizes]
        assert rule.target_reached == (step >= 20)
        for name in PRUNED:
            now = model.get_parameter(name) == 0
            assert bool(now[gone[name]].all())
            gone[name] = now
    assert not any(bool(torch.signbit(model.get_parameter(name)[gone[name]]).any()) for name in PRUNED)


def test_a_masked_model_answers_like_the_pruned_one(
    registry: Registry, make_context: Callable[..., Any], tiny_model: Callable[..., Any]
) -> None:
    model = tiny_model(SMALL)
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    context = few(make_context(model))
    pruned = build(registry, training={"epochs": 0}, sparsity=0.6).apply(copy.deepcopy(model), context)
    masked = copy.deepcopy(pruned)  # with its BatchNorm statistics
    with torch.no_grad():
        for name, parameter in masked.named_parameters():
            parameter.copy_(weights[name] * (pruned.get_parameter(name) != 0))
        assert torch.equal(masked(images), pruned(images))
    assert context.metrics["sparsity"] == pytest.approx(0.6, abs=1e-3)
    assert 0.5 < context.metrics["sparsity_of_all_layers"] < 0.6
    assert context.metrics["layers_pruned"] == 14  # 13 pointwise convolutions and the classifier


@pytest.mark.parametrize("options", [{"scope": "global"}, {"pattern": "2:4"}, {"training": {"ema": 0.9}}])
def test_a_training_ends_as_sparse_as_was_asked(
    options: dict[str, Any], registry: Registry, make_context: Callable[..., Any]
) -> None:
    context = few(make_context(Net().eval()))
    training = {"epochs": 2, "batch_size": BATCH, **options.get("training", {})}
    step = build(registry, interval=2, distillation=None, **{**options, "training": training})
    model = step.apply(Net().eval(), context)
    names = PRUNED[:2] if "pattern" in options else PRUNED
    assert sum(zeros(model, names)) == round(0.5 * sum(model.get_parameter(name).numel() for name in names))
    assert context.metrics["sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert context.metrics["best_epoch"] >= 1  # what was before was not sparse


def test_layers_that_stay_dense_are_told_or_refused(registry: Registry, make_context: Callable[..., Any]) -> None:
    class Told(Progress):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, text: str) -> None:
            self.lines.append(text)

    told = Told()
    context = few(make_context(Net().eval()), progress=told)
    build(registry, training={"epochs": 0}, pattern="2:4").apply(Net().eval(), context)
    assert told.lines == ["sparsify: stays dense: head (10 input channels, not a multiple of 4)"]
    with pytest.raises(Exception, match="set 'unsupported: skip' to leave them as they are"):
        build(registry, training={"epochs": 0}, pattern="2:4", unsupported="refuse").apply(Net().eval(), context)
    with pytest.raises(Exception, match=r"^sparsify: the model has no weights to prune; besides"):
        build(registry, training={"epochs": 0}).apply(nn.Sequential(nn.Conv2d(3, 10, 32), nn.Flatten()).eval(), context)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"pattern": "2:4", "sparsity": 0.75}, "'pattern' 2:4 implies a sparsity of 0.5; leave 'sparsity' out"),
        ({"pattern": "4:8", "scope": "global"}, "'pattern' 4:8 chooses within groups of weights; leave 'scope' out"),
        ({"sparsity": 1.0}, "less than 1"),
        ({"pattern": "1:2"}, "'none', '2:4' or '4:8'"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], problem: str, registry: Registry) -> None:
    with pytest.raises(ValidationError, match=problem):
        registry.passes.classes["sparsify"](**options)


class Killed(Exception):  # noqa: N818  # it stands for no error
    """As if the process had ended here."""


class Dies(CrossEntropy):
    """An objective that ends the training at a step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super().__call__(model, batch)


@pytest.mark.parametrize("options", [{}, {"ema": 0.8}])
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("at", [1, 4, 5, 8, 10])
def test_a_training_that_was_killed_ends_with_the_same_zeros(
    at: int, scope: Any, options: dict[str, Any], make_context: Callable[..., Any], tmp_path: Path
) -> None:
    """Ramp to step 8 of 12, in steps of 3; killed within it, at its end, and after."""
    training = TrainingConfig(epochs=3, batch_size=BATCH, **options)

    def train(folder: Path | None, left: int = 1000) -> tuple[dict[str, Tensor], Any]:
        model = Net().eval()
        context = few(
            make_context(model), checkpoints=CheckpointFolder(folder, Progress(), 0.0) if folder else Checkpoints()
        )
        rule = GradualZeros(PRUNED, PRUNED, Selection(scope), 0.7, 2 / 3, 3)
        history = fit(model, context, training, objective=Dies(left), callbacks=[rule], label="sparsify")
        return model.state_dict(), history

    expected, history = train(None)
    with pytest.raises(Killed):
        train(tmp_path, at)
    state, again = train(tmp_path)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert again == history
    total = sum(state[name].numel() for name in PRUNED)
    assert sum(int((state[name] == 0).sum()) for name in PRUNED) == pytest.approx(0.7 * total, abs=2)


def test_zeros_of_an_earlier_pass_stay(registry: Registry, make_context: Callable[..., Any]) -> None:
    model = build(registry, training={"epochs": 0}, depthwise=True).apply(Net().eval(), few(make_context(Net().eval())))
    assert zeros(model, ["body.3.weight"]) == [72]
    context = few(make_context(model), traits=SPARSE)
    training = {"epochs": 1, "batch_size": BATCH}
    after = build(registry, distillation=None, training=training, sparsity=0.7, ramp=1.0).apply(
        copy.deepcopy(model), context
    )
    assert zeros(after, ["body.3.weight"]) == [72]


def initializers(path: Path) -> list[np.ndarray]:
    """Every int8 or float32 constant of two and more axes: the weights, found without the code that is tested."""
    found = [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
    return [each for each in found if each.ndim > 1]


@pytest.mark.parametrize("options", [{"sparsity": 0.7}, {"pattern": "2:4"}])
def test_zeros_survive_distillation_quantization_and_export(
    options: dict[str, Any],
    registry: Registry,
    make_context: Callable[..., Any],
    tiny_model: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(KeepZeros, "target_reached", False)  # the last epoch is taken, not what was before
    model = tiny_model(SMALL)
    train = {"epochs": 1, "batch_size": BATCH, "lr": 0.01}
    sparse = build(registry, training={"epochs": 0}, **options).apply(copy.deepcopy(model), few(make_context(model)))
    where = {name: parameter == 0 for name, parameter in sparse.named_parameters() if parameter.dim() > 1}
    context = few(make_context(model), traits=SPARSE)
    taught = build(registry, "distill", train).apply(sparse, context)
    assert context.metrics["best_epoch"] == 1
    for name, zero in where.items():
        if bool(zero.any()):
            assert torch.equal(taught.get_parameter(name) == 0, zero), name
    quantized = build(registry, "qat", train).apply(taught, few(make_context(model), traits=SPARSE))
    runtime = registry.runtimes.build("onnx", {}, registry)
    counted = sum(int(zero.sum()) for zero in where.values())
    total = sum(zero.numel() for zero in where.values())
    for given, dtype in ((taught, np.float32), (quantized, np.int8)):
        path = tmp_path / f"{np.dtype(dtype).name}.onnx"
        runtime.export(given, (3, 32, 32), path)
        weights = initializers(path)
        assert {each.dtype for each in weights} == {np.dtype(dtype)}
        assert sum(each.size for each in weights) == total
        zero = sum(int((each == 0).sum()) for each in weights)
        assert counted <= zero <= counted + 0.03 * total  # rounding makes more
        assert runtime.zero_weights(path) == WeightCount(total, zero)
    if "pattern" in options:
        pointwise = [each for each in weights if each.ndim == 4 and each.shape[1] > 1 and each.shape[2] == 1]
        assert len(pointwise) == 13
        for each in pointwise:
            groups = each.reshape(len(each), -1, 4)
            assert int((groups != 0).sum(-1).max()) <= 2


def test_training_with_fake_quantization_keeps_zeros(
    make_context: Callable[..., Any], tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mbcompress_quantize.calibration import calibrate
    from mbcompress_quantize.graph import FakeQuantized, canonical_graph
    from mbcompress_quantize.scheme import Scheme

    monkeypatch.setattr(KeepZeros, "target_reached", False)
    model = tiny_model(SMALL)
    set_zeros(model, find_layers(model, EXAMPLE, depthwise=False, group=None).pruned, Selection(), 0.5)
    options = TrainingConfig(epochs=1, batch_size=BATCH, lr=0.01)
    context = few(make_context(model), traits=SPARSE)
    graph = canonical_graph(model, context.example(2), "test")
    ranges = calibrate(graph, Scheme(), context.calibration_batches()).ranges
    quantized = FakeQuantized(graph, Scheme(), ranges, observed_calls=2)
    before = {name: each.detach().clone() for name, each in quantized.named_parameters() if each.dim() > 1}
    fit(quantized, context, options, label="qat")
    moved = 0
    for name, weight in before.items():
        now = quantized.get_parameter(name)
        moved += int((now != weight).sum())
        if 0 < int((weight == 0).sum()) < weight.numel():
            assert bool((now == 0)[weight == 0].all()), name
    zero = sum(int((weight == 0).sum()) for weight in before.values())
    assert zero > 90_000
    assert moved > 90_000


def onnx_file(path: Path, nodes: list[Any], **constants: np.ndarray) -> Path:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "weights",
        [value("x", TensorProto.FLOAT, None), value("u", TensorProto.UINT8, None)],
        [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def test_zero_weights_of_a_file(registry: Registry, tmp_path: Path) -> None:
    node = helper.make_node
    float_weights = np.array([[1, 0, 0], [0, 2, 3]], np.float32)
    path = onnx_file(
        tmp_path / "model.onnx",
        [
            node("Gemm", ["x", "w", "b"], ["a"]),
            node("Transpose", ["w"], ["t"]),
            node("MatMul", ["a", "t"], ["m"]),  # the same weights once more
            node("DequantizeLinear", ["q", "s", "z"], ["d"], axis=0),
            node("MatMul", ["m", "d"], ["n"]),
            node("Conv", ["n", "k"], ["c"]),
            node("ConvInteger", ["u", "i", "uz", "iz"], ["e"]),
            node("QLinearConv", ["u", "s", "uz", "l", "s", "iz", "s", "uz"], ["f"]),
            node("Add", ["c", "b"], ["y"]),
        ],
        w=float_weights,  # 3 of 6
        b=np.zeros(3, np.float32),  # no weights
        q=np.array([[5, 5], [5, 7]], np.int8),  # with the zero points 5 and 7: 3 of 4
        s=np.ones(2, np.float32),
        z=np.array([5, 7], np.int8),
        k=np.zeros((1, 1, 2, 2), np.float32),  # 4 of 4
        uz=np.array(0, np.uint8),
        i=np.array([[[[3]]], [[[0]]]], np.int8),  # zero point 3: 1 of 2
        iz=np.array(3, np.int8),
        l=np.array([[[[3]]], [[[3]]]], np.int8),  # 2 of 2
    )
    runtime = registry.runtimes.build("onnx", {}, registry)
    assert runtime.zero_weights(path) == WeightCount(18, 13)
