"""Rewrite hard sigmoid and hard swish in graphs: hardsigmoid(x) = relu6(x + 3) / 6.

Howard et al., "Searching for MobileNetV3", 2019, https://arxiv.org/abs/1905.02244. `recognize_hard_sigmoid` finds
equivalent forms; the other functions decompose hardsigmoid for engines without this operator.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from mbcompress.graph.nodes import PREVIOUS, clamp_bounds, node_args, replace_node

if TYPE_CHECKING:
    from torch.fx import GraphModule

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed

ADDS = {aten.add.Tensor, aten.add_.Tensor, aten.add.Scalar}
PRODUCTS = {aten.mul.Tensor, aten.mul_.Tensor, aten.mul.Scalar}
QUOTIENTS = {aten.div.Tensor, aten.div_.Tensor, aten.div.Scalar}
GATES: dict[Any, Any] = {
    aten.hardswish.default: aten.hardsigmoid.default,
    aten.hardswish_.default: aten.hardsigmoid.default,
    aten.silu.default: aten.sigmoid.default,
    aten.silu_.default: aten.sigmoid.default,
}
LEAST, LARGEST = -128, 127


def recognize_hard_sigmoid(graph: GraphModule, node: Node) -> None:
    """Rewrite hardswish and silu as x * gate(x), and relu6(x + 3) / 6 and a * relu6(x + 3) / 6 with hardsigmoid."""
    if node.target in GATES:
        x = node.args[0]
        replace_node(graph, node, (GATES[node.target], x), (aten.mul.Tensor, x, PREVIOUS))
        return
    scaled, factor = _scaled(node)
    if scaled is None or not math.isclose(factor, 1 / 6, rel_tol=1e-5):
        return
    if source := _shifted_relu6(scaled):
        replace_node(graph, node, (aten.hardsigmoid.default, source))
    elif scaled.target in PRODUCTS and len(scaled.users) == 1:
        for inner, other in (scaled.args[:2], scaled.args[1::-1]):
            if source := _shifted_relu6(inner):
                replace_node(graph, node, (aten.hardsigmoid.default, source), (aten.mul.Tensor, other, PREVIOUS))
                return


def decompose_hard_sigmoid(graph: GraphModule) -> None:
    """Rewrite hardsigmoid(x) as hardtanh(x + 3, 0, 6) * (1/6), in place."""
    for node in list(graph.graph.nodes):
        if node.target == aten.hardsigmoid.default:
            with graph.graph.inserting_before(node):
                shifted = graph.graph.call_function(aten.add.Tensor, (node.args[0], _float(graph, "three", 3.0)))
                clamped = graph.graph.call_function(aten.hardtanh.default, (shifted, 0.0, 6.0))
                gate = graph.graph.call_function(aten.mul.Tensor, (clamped, _float(graph, "sixth", 1 / 6)))
            node.replace_all_uses_with(gate)
            graph.graph.erase_node(node)


def linearize_int8_hard_sigmoid(graph: GraphModule) -> None:
    """Rewrite hardsigmoid(x) as x * (1/6) + 1/2, in place, if x is int8 and the output has scale 1/255 and minimum 0.

    Saturation clips the result. The product has the scale of x divided by 6, so it has the same integers as x.
    """
    for node in list(graph.graph.nodes):
        if node.target == aten.hardsigmoid.default and all(map(_saturates_at_unit_interval, node.users)):
            x = node.args[0]
            if isinstance(x, Node) and x.target == quantized.dequantize_per_tensor.default:
                _linearize(graph, node, x)


def _linearize(graph: GraphModule, node: Node, x: Node) -> None:
    _, scale, *rest = x.args
    assert isinstance(scale, float)
    with graph.graph.inserting_before(node):
        product = graph.graph.call_function(aten.mul.Tensor, (x, _int8(graph, "sixth", 1 / 6)))
        for operator in (quantized.quantize_per_tensor.default, quantized.dequantize_per_tensor.default):
            product = graph.graph.call_function(operator, (product, scale / 6, *rest))
        gate = graph.graph.call_function(aten.add.Tensor, (product, _int8(graph, "half", 1 / 2)))
    node.replace_all_uses_with(gate)
    graph.graph.erase_node(node)


def _float(graph: GraphModule, name: str, value: float) -> Node:
    """Return a node for a number as a float32 tensor of one element."""
    name = f"mbcompress_float_{name}"
    if not hasattr(graph, name):
        graph.register_buffer(name, torch.tensor([value]))
    return graph.graph.get_attr(name)


def _int8(graph: GraphModule, name: str, value: float) -> Node:
    """Return a node for a number as a dequantized int8 tensor of one element, with its own scale."""
    name = f"mbcompress_{name}"
    if not hasattr(graph, name):
        graph.register_buffer(name, torch.tensor([LARGEST], dtype=torch.int8))
    arguments = (graph.graph.get_attr(name), value / LARGEST, 0, LEAST, LARGEST, torch.int8)
    return graph.graph.call_function(quantized.dequantize_per_tensor.default, arguments)


def _saturates_at_unit_interval(user: Node) -> bool:
    if user.target != quantized.quantize_per_tensor.default:
        return False
    _, scale, zero_point, *_ = node_args(user)
    return zero_point == LEAST and math.isclose(scale, 1 / 255, rel_tol=1e-5)


def _scaled(node: Node) -> tuple[Node | None, float]:
    """Return tensor and factor if `node` multiplies or divides a tensor by a number, else None and 1."""
    if node.target in PRODUCTS | QUOTIENTS and len(node.args) == 2 and not node.kwargs:
        x, number = node.args
        if isinstance(x, Node) and isinstance(number, int | float) and number:
            return x, number if node.target in PRODUCTS else 1 / number
    return None, 1.0


def _shifted_relu6(node: object) -> Node | None:
    """Return x if `node` is relu6(x + 3), else None."""
    if not isinstance(node, Node) or clamp_bounds(node) != (0, 6):
        return None
    shifted = node.args[0]
    if not isinstance(shifted, Node) or shifted.target not in ADDS or shifted.kwargs or shifted.args[1] != 3:
        return None
    x = shifted.args[0]
    return x if isinstance(x, Node) else None
