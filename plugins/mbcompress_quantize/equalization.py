"""Cross-layer equalization: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
2019, https://arxiv.org/abs/1906.04721, section 4.1.

A channel between two layers can be made s times smaller by the first and larger by the second. Per-channel weights need
no help, so what is evened out are the channels' activation ranges, which share one scale. Through ReLU this is exact
for any s. Through ReLU6 it is where a channel stays below 6 before and after, which calibration images decide.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Interpreter

from .calibration import quiet
from .layers import layers
from .quantizer import last_fused
from .rewrites import arguments, bounds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor
    from torch.fx import GraphModule, Node

    from .layers import Layer

aten = torch.ops.aten
LARGEST_FACTOR = 8.0
"""More would only move the spread from activations to the next layer's weights."""


def equalize(graph: GraphModule, batches: Iterable[Tensor]) -> int:
    """Even out a captured graph in place, and say between how many pairs of layers."""
    pairs = [(layer, following) for layer in layers(graph).values() if (following := _following(graph, layer))]
    peaks = _peaks(graph, [last_fused(layer.nodes[0]) for layer, _ in pairs], batches)
    for layer, following in pairs:
        last = last_fused(layer.nodes[0])
        _scale(graph, layer.nodes[0], following, _factors(peaks[last], bounds(last)))
    return len(pairs)


def _following(graph: GraphModule, layer: Layer) -> Node | None:
    """The only reader of a layer's output, if it is a convolution, and scaling commutes with what lies between."""
    node = layer.nodes[0]
    if len(layer.nodes) > 1 or node.target != aten.conv2d.default or not _is_own(node):
        return None
    last = last_fused(node)
    limits = bounds(last) if last is not node else (-math.inf, math.inf)
    if limits not in ((-math.inf, math.inf), (0, math.inf), (0, 6)) or len(last.users) != 1:
        return None
    (reader,) = last.users
    fits = reader.target == aten.conv2d.default and reader.args[0] is last and _is_own(reader)
    return reader if fits else None


def _is_own(node: Node) -> bool:
    """Whether nobody else uses the weight and bias."""
    constants = [each for each in arguments(node)[1:3] if each is not None]
    return all(each.op == "get_attr" and len(each.users) == 1 for each in constants)


def _peaks(graph: GraphModule, nodes: Iterable[Node], batches: Iterable[Tensor]) -> dict[Node, Tensor]:
    """The largest absolute value of each channel of some nodes, (C,)."""
    wanted = set(nodes)
    peaks: dict[Node, Tensor] = {}

    class Recorder(Interpreter):
        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            if n in wanted:
                peak = value.abs().amax((0, 2, 3))
                peaks[n] = torch.maximum(peaks[n], peak) if n in peaks else peak
            return value

    with torch.no_grad(), quiet():
        for images in batches:
            Recorder(graph).run(images)
    return peaks


def _factors(peak: Tensor, limits: tuple[float, float] | None) -> Tensor:
    """What each channel is multiplied by: towards the widest channel's range, (C,)."""
    widest = peak.amax()
    factors = (widest / peak.clamp_min(1e-6)).sqrt().clamp(1, LARGEST_FACTOR)
    if limits is not None and limits[1] == 6:
        factors = torch.minimum(factors, (6 / peak.clamp_min(1e-6)).clamp_min(1) * 0.999)
        factors = torch.where(peak < 6, factors, torch.ones_like(factors)).clamp_min(1)
    return factors


@torch.no_grad()
def _scale(graph: GraphModule, node: Node, reader: Node, factors: Tensor) -> None:
    """Multiply the output channels of one convolution and divide the input channels of the next."""
    for constant in arguments(node)[1:3]:
        if constant is not None:
            value = graph.get_parameter(str(constant.target))
            value.mul_(factors.view(-1, *[1] * (value.dim() - 1)))
    weight = graph.get_parameter(str(arguments(reader)[1].target))
    groups = len(factors) // weight.shape[1]
    per_group = factors.view(groups, weight.shape[1])  # (G, C_in / G)
    outputs = weight.shape[0] // groups
    weight.div_(per_group.repeat_interleave(outputs, 0)[:, :, None, None])
