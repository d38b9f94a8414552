"""Rewrites that keep the function: the canonical form of an exported graph, and lowering in ONNX."""

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from integer_models import Blocks, integer
from mbcompress_onnx.export import export
from mbcompress_onnx.lowering import fold_padding, keep_float_weights, use_integer_bias
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from mbcompress.graph import canonicalize

SHAPE = (3, 32, 32)


FORMS: dict[str, tuple[Callable[[Tensor], Tensor], set[str]]] = {
    "relu6": (F.relu6, {"hardtanh"}),
    "clamp": (lambda x: torch.clamp(x, 0, 6), {"hardtanh"}),
    "clamp by name": (lambda x: x.clamp(min=0.0, max=6.0), {"hardtanh"}),
    "relu and a ceiling": (lambda x: F.relu(x).clamp(max=6), {"hardtanh"}),
    "clamp_min": (lambda x: x.clamp_min(0), {"relu"}),
    "clamps of disjoint ranges": (lambda x: x.clamp(0, 1).clamp(2, 3), {"hardtanh"}),
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


@pytest.mark.parametrize("name", FORMS)
def test_one_canonical_form_for_each_operation(name: str) -> None:
    function, operators = FORMS[name]

    class Network(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    batch = ({0: torch.export.Dim.DYNAMIC},)
    images = 5 * torch.randn(3, 4, 8, 8)
    exported = torch.export.export(Network(), (images[:2],), dynamic_shapes=batch)
    graph: Any = exported.module(check_guards=False)
    canonicalize(graph)
    calls = {str(node.target).split(".")[1] for node in graph.graph.nodes if "aten" in str(node.target)}
    assert calls - {"sym_size"} == operators
    torch.testing.assert_close(graph(images), function(images))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_same_padding_becomes_numbers(kernel: int) -> None:
    layer = nn.Conv2d(3, 4, kernel, padding="same", dilation=1 if kernel == 2 else 2)
    images = torch.randn(2, 3, 9, 9)
    graph: Any = torch.export.export(layer, (images,)).module(check_guards=False)
    canonicalize(graph)
    assert "conv2d.padding" not in str(graph.graph)
    torch.testing.assert_close(graph(images), layer(images))


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


def test_padding_between_integers_folds_into_the_convolution_exactly() -> None:
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


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose", "Gemm"])
def test_float_weights_stay_float_in_onnx_runtime(kind: str) -> None:
    """ONNX Runtime rounds them to int8, one scale for all, after a DequantizeLinear with a single scale."""
    generator = np.random.default_rng(0)
    spread = np.array([1e-3, 1, 100, 1e4], np.float32)
    dense = kind == "Gemm"
    weights = generator.normal(size=(6, 4) if dense else (4, 4, 3, 3)).astype(np.float32)
    weights *= spread if dense else spread[:, None, None, None]
    constants = {"scale": np.float32(0.05), "zero": np.uint8(117), "weights": weights}
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["steps"]),
        helper.make_node("DequantizeLinear", ["steps", "scale", "zero"], ["values"]),
        helper.make_node(kind, ["values", "weights"], ["made"], **({"transA": 0} if dense else {})),
        helper.make_node("QuantizeLinear", ["made", "scale", "zero"], ["coarse"]),
        helper.make_node("DequantizeLinear", ["coarse", "scale", "zero"], ["again"]),
    ]
    shape = (2, 6) if dense else (2, 4, 5, 5)
    graph = helper.make_graph(
        nodes,
        "float",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("made", "again")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    images = generator.normal(size=shape).astype(np.float32)
    expected = ReferenceEvaluator(model).run(None, {"images": images})
    assert not np.allclose(in_onnx_runtime(model, images)[0], expected[0], rtol=1e-2)  # or the rewrite is not needed
    keep_float_weights(model)
    for found, wanted in zip(in_onnx_runtime(model, images), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def in_onnx_runtime(model: Any, images: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"images": images}))


@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_of_integers_stays_one_in_onnx_runtime(transposed: bool) -> None:
    """With a float bias it dequantizes all weights in every call and multiplies in float."""
    generator = np.random.default_rng(0)
    steps = generator.integers(-127, 128, (8, 64) if transposed else (64, 8), np.int8)
    constants = {
        "scale": np.float32(0.05),
        "zero": np.uint8(117),
        "steps": steps,
        "scales": generator.uniform(1e-3, 1e-2, 8).astype(np.float32),
        "zeros": np.zeros(8, np.int8),
        "bias": generator.normal(size=8).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["rounded", "scale", "zero"], ["values"]),
        helper.make_node("DequantizeLinear", ["steps", "scales", "zeros"], ["weights"], axis=0 if transposed else 1),
        helper.make_node("Gemm", ["values", "weights", "bias"], ["logits"], transB=int(transposed)),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, (None, 64))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (None, 8))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    images = generator.normal(size=(2, 64)).astype(np.float32)
    expected = ReferenceEvaluator(model).run(None, {"images": images})[0]
    assert "Gemm" in optimized_operators(model)  # or the rewrite is not needed
    use_integer_bias(model)
    checker.check_model(model, full_check=True)
    assert "QGemm" in optimized_operators(model)
    for found in (ReferenceEvaluator(model).run(None, {"images": images})[0], in_onnx_runtime(model, images)[0]):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("case", ["an output that is scaled", "float weights", "a bias for each image"])
def test_other_products_keep_their_bias(case: str) -> None:
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("DequantizeLinear", ["steps", "one"], ["weights"]),
                helper.make_node("DequantizeLinear", ["rounded", "one"], ["values"]),
                helper.make_node(
                    "Gemm",
                    ["values", "float" if case == "float weights" else "weights", "bias"],
                    ["logits"],
                    alpha=2.0 if case == "an output that is scaled" else 1.0,
                ),
            ],
            "classifier",
            [helper.make_tensor_value_info("rounded", TensorProto.UINT8, (2, 4))],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
            [
                numpy_helper.from_array(value, name)
                for name, value in {
                    "one": np.array(1, np.float32),
                    "steps": np.ones((4, 3), np.int8),
                    "float": np.ones((4, 3), np.float32),
                    "bias": np.ones((2, 3) if case == "a bias for each image" else 3, np.float32),
                }.items()
            ],
        ),
        opset_imports=[helper.make_opsetid("", 21)],
    )
    before = model.SerializeToString()
    use_integer_bias(model)
    assert model.SerializeToString() == before


def test_nothing_of_an_int8_network_is_left_in_float(tmp_path: Path) -> None:
    """Beside the convolutions: the residual add, squeeze-excite's product, h-swish, pooling and the classifier."""
    model = Blocks()
    with torch.no_grad():
        model.classifier.bias.uniform_(-1, 1)
    export(integer(model), SHAPE, tmp_path / "model.onnx", 20)
    operators = Counter(optimized_operators(onnx.load(tmp_path / "model.onnx")))
    assert operators["QLinearConv"] == 7
    assert operators["QLinearAdd"] >= 1
    assert operators["QLinearMul"] >= 2
    assert operators["QLinearGlobalAveragePool"] == 2
    assert operators["QGemm"] == 1
    integers = ("QLinear", "QGemm", "QuantizeLinear", "DequantizeLinear", "Transpose", "Reshape", "Squeeze", "Flatten")
    assert [each for each in operators if not each.startswith(integers)] == []
    assert operators["DequantizeLinear"] <= 1


def optimized_operators(model: Any) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        options.log_severity_level = 3
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
