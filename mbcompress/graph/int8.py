"""Convert int8 graphs for engines with signed activations.

Quantized models of mbcompress have quantize and dequantize operators (torchao's PT2E) with uint8 activations, which are
fastest in ONNX Runtime and OpenVINO on x86-64. XNNPACK and LiteRT need int8 activations and have no int8 hard sigmoid.
The conversion is exact: zero points shift, scales stay the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
from torch.fx import Node

from mbcompress.graph.hard_sigmoid import linearize_int8_hard_sigmoid
from mbcompress.graph.nodes import node_args

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.fx import GraphModule

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed
PER_TENSOR = (quantized.quantize_per_tensor.default, quantized.dequantize_per_tensor.default)
SHIFT = 128
ROUNDING = 1e-6


def signed_int8_graph(model: nn.Module, example: Tensor) -> GraphModule:
    """Export `model` as a graph without uint8 activations and int8 hard sigmoids.

    Args:
        model: in eval mode, on the CPU, float or int8; not modified, but shares its weights with the graph.
        example: (N, C, H, W) float32; fixes the batch size of the graph.
    """
    graph = torch.export.export(model, (example,)).module(check_guards=False)
    scales: list[float] = []
    for node in graph.graph.nodes:
        _use_int8(node, scales)
    linearize_int8_hard_sigmoid(graph)
    for node in list(graph.graph.nodes):
        _drop_pooling_of_one(graph, node)
    graph.graph.lint()
    graph.recompile()
    return graph


def _use_int8(node: Node, scales: list[float]) -> None:
    """Convert uint8 in 0..255 with zero point z to int8 in -128..127 with zero point z - 128.

    Scales that differ only by rounding are unified, because LiteRT rejects reshapes between different scales.
    """
    if node.target in PER_TENSOR and node.args[5] == torch.uint8:
        x, scale, zero_point, low, high, _ = node_args(node)
        known = next((other for other in scales if math.isclose(other, scale, rel_tol=ROUNDING)), None)
        if known is None:
            scales.append(known := scale)
        node.args = (x, known, zero_point - SHIFT, low - SHIFT, high - SHIFT, torch.int8)


def _drop_pooling_of_one(graph: GraphModule, node: Node) -> None:
    """Drop a mean over a single element, on which LiteRT's converter fails if the scales differ."""
    if node.target != aten.adaptive_avg_pool2d.default or not isinstance(x := node.args[0], Node):
        return
    if node.meta["val"].shape == x.meta["val"].shape and tuple(x.meta["val"].shape[2:]) == (1, 1):
        node.replace_all_uses_with(x)
        graph.graph.erase_node(node)
