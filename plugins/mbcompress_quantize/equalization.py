"""Cross-layer equalization: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
2019, https://arxiv.org/abs/1906.04721, section 4.1.

Scaling an output channel of one layer by s and the matching input channel of the next by 1/s leaves the model's output
unchanged. Weights have per-channel scales and do not need this; it equalizes the activation ranges of the channels,
which share one scale. Across ReLU this is exact for any s > 0; across ReLU6 it is exact for channels that stay below 6
before and after, as measured on calibration images.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from mbcompress.graph import clamp_bounds, get_tensor, node_args, run_with_hook

from .layers import find_layers
from .quantizer import last_fused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor
    from torch.fx import GraphModule, Node

    from .layers import QuantizedLayer

aten = torch.ops.aten
UNBOUNDED = (-math.inf, math.inf)
LARGEST_FACTOR = 8.0
"""Larger factors would only move the spread from the activations to the weights of the next layer."""


def equalize_cross_layer(graph: GraphModule, batches: Iterable[Tensor]) -> int:
    """Equalize a canonical graph in place and return the number of equalized layer pairs."""
    pairs = [(layer, following) for layer in find_layers(graph).values() if (following := _following(layer))]
    peaks = _channel_peaks(graph, [last_fused(layer.nodes[0]) for layer, _ in pairs], batches)
    for layer, following in pairs:
        last = last_fused(layer.nodes[0])
        _scale(graph, layer.nodes[0], following, _factors(peaks[last], clamp_bounds(last)))
    return len(pairs)


def _following(layer: QuantizedLayer) -> Node | None:
    """The only consumer of a layer's output, if it is a convolution and the activation commutes with scaling."""
    node = layer.nodes[0]
    if len(layer.nodes) > 1 or node.target != aten.conv2d.default or not _has_own_weights(node):
        return None
    last = last_fused(node)
    bounds = UNBOUNDED if last is node else clamp_bounds(last)
    if bounds not in (UNBOUNDED, (0, math.inf), (0, 6)) or len(last.users) != 1:
        return None
    (reader,) = last.users
    fits = reader.target == aten.conv2d.default and reader.args[0] is last and _has_own_weights(reader)
    return reader if fits else None


def _has_own_weights(node: Node) -> bool:
    """Whether no other node uses its weight and bias."""
    constants = [constant for constant in node_args(node)[1:3] if constant is not None]
    return all(constant.op == "get_attr" and len(constant.users) == 1 for constant in constants)


def _channel_peaks(graph: GraphModule, nodes: list[Node], batches: Iterable[Tensor]) -> dict[Node, Tensor]:
    """The largest absolute value per channel of each node, (C,)."""
    peaks: dict[Node, Tensor] = {}

    def record(node: Node, _: object, value: Tensor) -> None:
        peak = value.abs().amax((0, 2, 3))
        peaks[node] = torch.maximum(peaks[node], peak) if node in peaks else peak

    for images in batches:
        run_with_hook(graph, images, nodes, record)
    return peaks


def _factors(peak: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    """Factors that bring each channel closer to the widest range, (C,)."""
    widest = peak.amax()
    factors = (widest / peak.clamp_min(1e-6)).sqrt().clamp(1, LARGEST_FACTOR)
    if bounds is not None and bounds[1] == 6:
        factors = torch.minimum(factors, (6 / peak.clamp_min(1e-6)).clamp_min(1) * 0.999)
        factors = torch.where(peak < 6, factors, torch.ones_like(factors)).clamp_min(1)
    return factors


@torch.no_grad()
def _scale(graph: GraphModule, node: Node, reader: Node, factors: Tensor) -> None:
    """Multiply the output channels of one convolution by the factors, and divide the input channels of the next."""
    for constant in node_args(node)[1:3]:
        if constant is not None:
            value = get_tensor(graph, constant)
            value.mul_(factors.view(-1, *[1] * (value.dim() - 1)))
    weight = get_tensor(graph, node_args(reader)[1])
    groups = len(factors) // weight.shape[1]
    per_group = factors.view(groups, weight.shape[1])  # (G, C_in / G)
    outputs = weight.shape[0] // groups
    weight.div_(per_group.repeat_interleave(outputs, 0)[:, :, None, None])
