"""From a module to an ExecuTorch program whose network runs in XNNPACK."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower

from mbcompress import MbcompressError
from mbcompress.errors import brief
from mbcompress.files import write_atomically
from mbcompress.graph.export import silenced
from mbcompress.graph.int8 import signed_int8_graph
from mbcompress.graph.layout import to_contiguous

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn
    from torch.fx import GraphModule, Node

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed
RANGE = (-128, 127)
SMALLEST_SCALE = float(torch.finfo(torch.float32).eps)


def export(model: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
    """Write `model` for one image (1, C, H, W) float32 -> (1, K) float32.

    Raises:
        MbcompressError: the model cannot be captured, or uses an operator that ExecuTorch does not have.
    """
    example = torch.zeros(1, *input_shape)
    with silenced():
        try:
            graph = signed_int8_graph(to_contiguous(model), example)
            for node in list(graph.graph.nodes):
                _spell_out_hard_sigmoid(graph, node)
                _quantize_input_of_float_output(graph, node)
            graph.recompile()
            program = torch.export.export(graph, (example,))
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            content = bytes(lowered.to_executorch().buffer)
        except Exception as error:  # torch.export and ExecuTorch raise whatever their stages raise
            reason = f"{type(error).__name__}: {brief(str(error))}"
            raise MbcompressError(f"executorch: the model cannot be exported ({reason})") from error
    write_atomically(path, content)


def _spell_out_hard_sigmoid(graph: GraphModule, node: Node) -> None:
    """hardsigmoid(x) -> min(max(x + 3, 0), 6) / 6: XNNPACK has no hard sigmoid, and would be left for each."""
    if node.target != aten.hardsigmoid.default:
        return
    with graph.graph.inserting_before(node):
        shifted = graph.graph.call_function(aten.add.Tensor, (node.args[0], _number(graph, "three", 3.0)))
        limited = graph.graph.call_function(aten.hardtanh.default, (shifted, 0.0, 6.0))
        result = graph.graph.call_function(aten.mul.Tensor, (limited, _number(graph, "sixth", 1 / 6)))
    node.replace_all_uses_with(result)
    graph.graph.erase_node(node)


def _number(graph: GraphModule, name: str, value: float) -> Node:
    name = f"mbcompress_float_{name}"
    if not hasattr(graph, name):
        graph.register_buffer(name, torch.tensor([value]))
    return graph.graph.get_attr(name)


def _quantize_input_of_float_output(graph: GraphModule, node: Node) -> None:
    """An int8 linear layer with a float result, as the last one has, gets an input that is quantized as it comes.

    XNNPACK multiplies int8 by int8 to float only where each image has its own range ("dynamic quantization").
    """
    linear = node.target == aten.linear.default and isinstance(node.args[1], type(node))
    if not linear or node.args[1].target not in _dequantizers() or any(_quantizes(user) for user in node.users):  # type: ignore[union-attr]
        return
    x = node.args[0]
    call = graph.graph.call_function
    with graph.graph.inserting_before(node):
        chosen = call(quantized.choose_qparams.tensor, (x, *RANGE, SMALLEST_SCALE, torch.int8))
        scale, zero = (call(operator.getitem, (chosen, index)) for index in range(2))
        steps = call(quantized.quantize_per_tensor.tensor, (x, scale, zero, *RANGE, torch.int8))
        values = call(quantized.dequantize_per_tensor.tensor, (steps, scale, zero, *RANGE, torch.int8))
    node.args = (values, *node.args[1:])


def _dequantizers() -> tuple[object, ...]:
    return quantized.dequantize_per_channel.default, quantized.dequantize_per_tensor.default


def _quantizes(node: Node) -> bool:
    """Whether `node` quantizes, itself or after an activation."""
    if node.target in (aten.relu.default, aten.hardtanh.default):
        return all(map(_quantizes, node.users))
    return node.target == quantized.quantize_per_tensor.default
