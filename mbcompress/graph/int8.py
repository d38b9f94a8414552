"""int8 graphs in the form that engines with signed activations want. Imports torch.

The passes of mbcompress leave quantize and dequantize operators (torchao's PT2E) with uint8 activations, which ONNX
Runtime and OpenVINO run fastest on x86-64. XNNPACK and LiteRT take int8 ones, and have no integer hard sigmoid. The
rewrites here keep the function: every number that was an integer stays the same multiple of the same scale.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed
SHIFT = 128
LARGEST = 127
ROUNDING = 1e-6


def signed_int8_graph(model: nn.Module, example: Tensor) -> GraphModule:
    """`model` as an ATen graph without uint8 activations and without hard sigmoids between integers.

    Args:
        model: in eval mode, on the CPU, float or int8; it is not changed, but shares its weights with the graph.
        example: (N, C, H, W) float32; the graph is for this batch size.
    """
    graph = torch.export.export(model, (example,)).module(check_guards=False)
    scales: list[float] = []
    for node in list(graph.graph.nodes):
        _sign(node, scales)
    for node in list(graph.graph.nodes):
        _replace_hard_sigmoid(graph, node)
        _drop_pooling_of_one(graph, node)
    graph.graph.lint()
    graph.recompile()
    return graph


def _sign(node: Node, scales: list[float]) -> None:
    """uint8 in 0..255 with zero point z -> int8 in -128..127 with zero point z - 128.

    Scales that differ by rounding alone become one of `scales`: LiteRT refuses a change of shape between two of them.
    """
    if node.target in _per_tensor() and node.args[5] == torch.uint8:
        x, scale, zero, low, high, _ = node.args
        known = next((each for each in scales if math.isclose(each, _float(scale), rel_tol=ROUNDING)), None)
        if known is None:
            scales.append(known := _float(scale))
        node.args = (x, known, _int(zero) - SHIFT, _int(low) - SHIFT, _int(high) - SHIFT, torch.int8)


def _replace_hard_sigmoid(graph: GraphModule, node: Node) -> None:
    """hardsigmoid(x) -> x * (1/6) + 1/2, where its result is quantized to steps of 1/255 from 0: saturation clips.

    The product is given the scale of x over 6, so that it is the same integers again.
    """
    if node.target != aten.hardsigmoid.default or not all(map(_saturates_at_unit_interval, node.users)):
        return
    x = node.args[0]
    if not isinstance(x, Node) or x.target != quantized.dequantize_per_tensor.default:
        return
    _, scale, *rest = x.args
    with graph.graph.inserting_before(node):
        scaled: Node = graph.graph.call_function(aten.mul.Tensor, (x, _constant(graph, "sixth", 1 / 6)))
        for step in (quantized.quantize_per_tensor.default, quantized.dequantize_per_tensor.default):
            scaled = graph.graph.call_function(step, (scaled, _float(scale) / 6, *rest))
        shifted = graph.graph.call_function(aten.add.Tensor, (scaled, _constant(graph, "half", 1 / 2)))
    node.replace_all_uses_with(shifted)
    graph.graph.erase_node(node)


def _drop_pooling_of_one(graph: GraphModule, node: Node) -> None:
    """A mean over one number is that number; LiteRT's converter stumbles over the two scales around it."""
    if node.target != aten.adaptive_avg_pool2d.default or not isinstance(x := node.args[0], Node):
        return
    if node.meta["val"].shape == x.meta["val"].shape and tuple(x.meta["val"].shape[2:]) == (1, 1):
        node.replace_all_uses_with(x)
        graph.graph.erase_node(node)


def _constant(graph: GraphModule, name: str, value: float) -> Node:
    """A number as an int8 tensor of one element, dequantized; each number has its own tensor, and so its own scale."""
    name = f"mbcompress_{name}"
    if not hasattr(graph, name):
        graph.register_buffer(name, torch.tensor([LARGEST], dtype=torch.int8))
    steps = graph.graph.get_attr(name)
    scale = value / LARGEST
    arguments = (steps, scale, 0, -SHIFT, LARGEST, torch.int8)
    return graph.graph.call_function(quantized.dequantize_per_tensor.default, arguments)


def _saturates_at_unit_interval(user: Node) -> bool:
    if user.target != quantized.quantize_per_tensor.default:
        return False
    _, scale, zero, *_ = user.args
    return _int(zero) == -SHIFT and math.isclose(_float(scale), 1 / 255, rel_tol=1e-5)


def _per_tensor() -> tuple[object, object]:
    """The operators; torchao registers them when it is imported, which a float model does without."""
    import torchao.quantization.pt2e.quantize_pt2e  # noqa: F401

    return quantized.quantize_per_tensor.default, quantized.dequantize_per_tensor.default


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _float(value: object) -> float:
    assert isinstance(value, float)
    return value
