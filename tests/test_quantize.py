"""int8 against fp32, and every convolution in int8 in ONNX Runtime."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from mbcompress_onnx.lowering import use_add_for_quantized_hard_sigmoid
from mbcompress_quantize.calibration import calibrate
from mbcompress_quantize.graph import FakeQuantized, canonical_graph
from mbcompress_quantize.saturation import adds_in_16_bits
from mbcompress_quantize.scheme import Scheme
from toys import Lines

from mbcompress.errors import TrainingDivergedError
from mbcompress.graph import count_parameters
from mbcompress.measure import ExportBenchmark
from mbcompress.registry.discovery import Registry
from mbcompress.training import History, Score, evaluate, fit


def decibels(signal: torch.Tensor, other: torch.Tensor) -> float:
    """Signal-to-quantization-noise ratio."""
    return float(10 * torch.log10(signal.square().sum() / (signal - other).square().sum()))


def simulate(model: torch.nn.Module, batches: list[torch.Tensor], scheme: Scheme, **steps: int) -> FakeQuantized:
    graph = canonical_graph(model, batches[0][:2], "test")
    return FakeQuantized(graph, scheme, calibrate(graph, scheme, batches).ranges, **steps)


def quantize(model: torch.nn.Module, images: torch.Tensor) -> tuple[FakeQuantized, torch.nn.Module]:
    fake = simulate(model, [images], Scheme())
    return fake, fake.convert()


ZOO = {
    "mobilenet_v1": ({"width": 0.5, "strides_removed": 1, "weights": "zoo:mobilenet_v1_digits"}, 27),
    "mobilenet_v2": ({"width": 0.5, "strides_removed": 2, "weights": "zoo:mobilenet_v2_digits"}, 52),
    "mobilenet_v3_small": ({"width": 1.0, "strides_removed": 1, "weights": "zoo:mobilenet_v3_small_digits"}, 52),
}


@pytest.mark.parametrize("source", ZOO)
def test_trained_networks_keep_their_outputs_with_every_convolution_in_int8(
    registry: Registry, digits: Any, tmp_path: Path, source: str
) -> None:
    options, convolutions = ZOO[source]
    model = registry.build_model({"source": source, "num_classes": 10, "input_size": 32, **options}).load()
    calibration, validation = (
        torch.from_numpy(digits.normalization.apply(part.pixels)) for part in (digits.calibration, digits.validation)
    )
    with torch.no_grad():
        reference = model(validation)
        _, quantized = quantize(model, calibration)
        simulated = quantized(validation)
    runtime = registry.runtimes.build("onnx", {}, registry)
    path = tmp_path / "model.onnx"
    runtime.export(quantized, (3, 32, 32), path)
    assert runtime.convolutions(path) == (convolutions, convolutions)
    assert decibels(reference, simulated) > 20
    if adds_in_16_bits():
        pytest.skip("ONNX Runtime saturates sums of 8-bit products on this CPU")
    executed = torch.from_numpy(runtime.open(path, 1).run(validation.numpy()))
    assert decibels(reference, executed) > 20
    assert decibels(simulated, executed) > 28
    labels = torch.from_numpy(digits.validation.labels)
    right = [int((logits.argmax(1) == labels).sum()) for logits in (reference, executed)]
    assert right[1] >= right[0] - 2
    proto = onnx.load(path)
    assert not {node.op_type for node in proto.graph.node} & {"HardSigmoid", "HardSwish", "ReduceMean"}
    floats = sum(np.prod(t.dims) for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    assert floats < 0.1 * count_parameters(model)  # biases and scales; weights are int8
    assert path.stat().st_size < 0.35 * 4 * count_parameters(model)


def test_the_callers_model_is_not_changed(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("mobilenet_v2")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(8, 3, 32, 32)
    quantize(model, images)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_evaluation_does_not_move_activation_ranges(tiny_model: Callable[..., Any]) -> None:
    fake = simulate(tiny_model("mobilenet_v2"), [torch.randn(8, 3, 32, 32)], Scheme(), observed_calls=2)
    loud = 100 * torch.randn(8, 3, 32, 32)

    def ranges() -> list[float]:
        return [
            float(value) for name, value in fake.state_dict().items() if name.endswith("max_val") and not value.dim()
        ]

    before = ranges()
    assert before
    fake.eval()
    fake(loud)
    assert ranges() == before
    fake.train()
    fake(loud)
    moved = ranges()
    assert moved != before
    fake(loud)
    fake(loud)  # beyond observed_calls
    frozen = ranges()
    fake.train()
    fake(loud)
    assert ranges() == frozen


def test_hard_sigmoid_becomes_one_integer_addition() -> None:
    """Over all 256 inputs, the rewritten graph agrees with HardSigmoid to one step of 1/255."""
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    scale = np.float32(8 / 255)
    constants = {
        "s": scale,
        "z": np.uint8(128),
        "unit": np.float32(1 / 255),
        "zero": np.uint8(0),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["real"]),
        helper.make_node("HardSigmoid", ["real"], ["gate"], alpha=1 / 6, beta=0.5),
        helper.make_node("QuantizeLinear", ["gate", "unit", "zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "gate",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [256])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [256])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    inputs = {"x": np.arange(256, dtype=np.uint8)}
    (before,) = ReferenceEvaluator(model).run(None, inputs)
    use_add_for_quantized_hard_sigmoid(model)
    assert "HardSigmoid" not in {node.op_type for node in model.graph.node}
    (after,) = ReferenceEvaluator(model).run(None, inputs)
    assert before.min() == 0
    assert before.max() == 255
    assert np.abs(before.astype(int) - after.astype(int)).max() <= 1


def test_qat_pass_keeps_post_training_quantization_where_training_ruins_the_network(
    registry: Registry, make_context: Callable[..., Any]
) -> None:
    options, _ = ZOO["mobilenet_v1"]
    model = registry.build_model({"source": "mobilenet_v1", "num_classes": 10, "input_size": 32, **options}).load()
    context = make_context(model)
    qat = registry.passes.build("qat", {"training": {"epochs": 1, "lr": 5.0}, "distillation": None}, registry)
    result = qat.apply(model, context)
    assert context.metrics["best_epoch"] == 0
    assert context.metrics["ptq_top1"] > 0.95
    score = evaluate(result, context.data.validation, context.data.normalization, context.device)
    assert score.top1 >= context.metrics["ptq_top1"] - 1.5 / score.count


def test_calibration_weighs_every_batch_alike(tiny_model: Callable[..., Any]) -> None:
    quiet, loud = torch.full((4, 3, 32, 32), 1.0), torch.full((4, 3, 32, 32), 3.0)
    fake = simulate(tiny_model("mobilenet_v1"), [quiet, quiet, loud, loud], Scheme())
    largest = next(value for name, value in fake.state_dict().items() if name.endswith("max_val") and not value.dim())
    assert float(largest) == pytest.approx(2.0)


def test_hard_sigmoid_that_is_an_output_keeps_its_clip() -> None:
    from onnx import TensorProto, helper, numpy_helper

    constants = {"s": np.float32(0.1), "z": np.uint8(128)}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["real"]),
        helper.make_node("HardSigmoid", ["real"], ["y"], alpha=1 / 6, beta=0.5),
    ]
    graph = helper.make_graph(
        nodes,
        "gate",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [256])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    use_add_for_quantized_hard_sigmoid(model)
    assert [node.op_type for node in model.graph.node] == ["DequantizeLinear", "HardSigmoid"]


@pytest.fixture
def tiny_qat(
    registry: Registry, tiny_model: Callable[..., Any], make_context: Callable[..., Any]
) -> Callable[..., Any]:
    """Run `qat` for an epoch on 128 images, and return the result, the context, and the messages."""

    def run(**changes: Any) -> tuple[torch.nn.Module, Any, list[str]]:
        model, told = tiny_model("mobilenet_v1"), Lines()
        context = make_context(model, progress=told, **changes)
        few = replace(context.data, train=context.data.train.take(np.arange(128)))
        context = replace(context, data=few)
        options = {"training": {"epochs": 1, "lr": 0.01}, "distillation": None, "algorithm": "minmax"}
        result = registry.passes.build("qat", options, registry).apply(model, context)
        return result, context, told.lines

    return run


def score_on_validation(model: torch.nn.Module, context: Any) -> Score:
    return evaluate(model, context.data.validation, context.data.normalization, context.device)


def test_a_training_that_diverges_leaves_post_training_quantization(
    tiny_qat: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(model: Any, *_: object, **__: object) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(torch.nan)
        raise TrainingDivergedError("qat: the loss is not finite")

    monkeypatch.setattr("mbcompress_quantize.training.fit", diverge)
    result, context, told = tiny_qat()
    assert told[-1] == "qat: the loss is not finite; keeping the post-training result"
    assert context.metrics["best_epoch"] == 0
    assert score_on_validation(result, context).top1 == context.metrics["ptq_top1"]


def test_the_better_file_is_the_result(
    registry: Registry, tiny_qat: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accuracy of the files decides, not that of the networks in memory, which is nearly the same."""
    onnx = registry.runtimes.build("onnx", {}, registry)
    better = History((Score(1, 0.0, 10), Score(2, 0.0, 10)), (1.0,), best=1)
    monkeypatch.setattr("mbcompress_quantize.training.fit", lambda model, *_, **__: better)
    result, context, _ = tiny_qat(runtimes=(onnx,))
    with ExportBenchmark(context) as benchmark:
        file = benchmark.score(result)
    memory = score_on_validation(result, context)
    assert abs(file.correct - memory.correct) <= 3
    assert file.count == memory.count
    assert context.metrics["best_epoch"] == 1
    scores = iter([Score(9, 0.0, 10), Score(8, 0.0, 10)])
    monkeypatch.setattr(ExportBenchmark, "score", lambda self, model: next(scores))
    _, context, told = tiny_qat(runtimes=(onnx,))
    assert context.metrics["best_epoch"] == 0
    assert told[-1] == (
        "qat: exported, post-training quantization has val top-1 90.0%, the trained model 80.0%; keeping the former"
    )


def test_phases_are_shares_of_the_training_whatever_a_step_is_divided_into(
    registry: Registry,
    tiny_model: Callable[..., Any],
    make_context: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, phases = tiny_model("mobilenet_v1"), []

    def watched(model: Any, *arguments: Any, **options: Any) -> None:
        forwards = list[bool]()
        hook = model.register_forward_hook(lambda module, *_: forwards.append(module.training))
        fit(model, *arguments, **options)
        hook.remove()
        phases.append((model.free_calls, model.observed_calls, sum(forwards)))
        raise TrainingDivergedError("seen enough")

    monkeypatch.setattr("mbcompress_quantize.training.fit", watched)
    context = make_context(model)
    few = replace(context, data=replace(context.data, train=context.data.train.take(np.arange(128))))
    for parts in (1, 4):
        training = {"epochs": 1, "batch_size": 16, "lr": 0.001, "grad_accum_steps": parts}
        options = {
            "training": training,
            "algorithm": "minmax",
            "distillation": None,
            "round_from": 0.25,
            "observe": 0.5,
        }
        registry.passes.build("qat", options, registry).apply(model, few)
    assert phases == [(2, 4, 8), (8, 16, 32)]


def test_rounding_begins_when_the_schedule_says_so(tiny_model: Callable[..., Any]) -> None:
    model, images = tiny_model("mobilenet_v1"), torch.randn(8, 3, 32, 32)
    fake = simulate(model, [images], Scheme(), free_calls=2, observed_calls=3)
    with torch.no_grad():
        rounded, exact = fake(images), model(images)
        fake.train()
        for expected in (exact, exact):
            torch.testing.assert_close(fake(images), expected, rtol=1e-3, atol=1e-4)
        assert decibels(exact, fake(images)) < 40
        fake.eval()
        torch.testing.assert_close(fake(images), rounded, rtol=0.3, atol=0.3)
