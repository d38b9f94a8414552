"""Export a module to an ExecuTorch program for XNNPACK."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower

from mbcompress import MbcompressError
from mbcompress.errors import brief
from mbcompress.graph import decompose_hard_sigmoid, node_args, quiet_export, signed_int8_graph, to_contiguous

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn
    from torch.fx import GraphModule, Node

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed
RANGE = (-128, 127)
DEQUANTIZERS = (quantized.dequantize_per_channel.default, quantized.dequantize_per_tensor.default)
SMALLEST_SCALE = float(torch.finfo(torch.float32).eps)


def export(model: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
    """Write `model` for one image (1, C, H, W) float32 -> (1, K) float32.

    Raises:
        MbcompressError: torch.export cannot capture the model, or ExecuTorch lacks an operator.
    """
    example = torch.zeros(1, *input_shape)
    with quiet_export():
        try:
            graph = signed_int8_graph(to_contiguous(model), example)
            decompose_hard_sigmoid(graph)  # not supported by XNNPACK
            for node in list(graph.graph.nodes):
                _quantize_input_of_float_output(graph, node)
            graph.recompile()
            program = torch.export.export(graph, (example,))
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            content = bytes(lowered.to_executorch().buffer)
        except Exception as error:  # torch.export and ExecuTorch have no common exception class
            reason = f"{type(error).__name__}: {brief(str(error))}"
            raise MbcompressError(f"executorch: the model cannot be exported ({reason})") from error
    path.write_bytes(content)


def _quantize_input_of_float_output(graph: GraphModule, node: Node) -> None:
    """Quantize the input of an int8 linear layer with float output (the classifier) dynamically.

    XNNPACK supports int8 linear layers with float output only with dynamic quantization of the input.
    """
    if node.target != aten.linear.default:
        return
    x, weight = node_args(node)[:2]
    if weight.target not in DEQUANTIZERS or any(map(_quantizes, node.users)):
        return
    call = graph.graph.call_function
    with graph.graph.inserting_before(node):
        qparams = call(quantized.choose_qparams.tensor, (x, *RANGE, SMALLEST_SCALE, torch.int8))
        scale, zero_point = (call(operator.getitem, (qparams, index)) for index in range(2))
        steps = call(quantized.quantize_per_tensor.tensor, (x, scale, zero_point, *RANGE, torch.int8))
        values = call(quantized.dequantize_per_tensor.tensor, (steps, scale, zero_point, *RANGE, torch.int8))
    node.args = (values, *node.args[1:])


def _quantizes(node: Node) -> bool:
    """Whether `node` quantizes, or is an activation with a quantized output."""
    if node.target in (aten.relu.default, aten.hardtanh.default):
        return all(map(_quantizes, node.users))
    return node.target == quantized.quantize_per_tensor.default
