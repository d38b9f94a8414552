"""Bias correction: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019,
https://arxiv.org/abs/1906.04721, section 4.2, with calibration images instead of BatchNorm's statistics.

Rounding weights and activations shifts the mean of a layer's outputs, per channel. One forward pass corrects all layers
in order: the layers before each are already quantized and corrected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mbcompress.graph import get_tensor, node_args, run_with_hook

from .layers import find_layers
from .sensitivity import Switches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.fx import Node

    from .graph import FakeQuantized


@torch.no_grad()
def correct_biases(model: FakeQuantized, batches: Sequence[Tensor]) -> int:
    """Correct the biases in place and return the number of corrected layers."""
    graph = model.captured
    nodes = [layer.nodes[0] for layer in find_layers(graph).values() if len(layer.nodes) == 1]
    biased = [node for node in nodes if len(node.args) > 2 and node.args[2] is not None]
    images = torch.cat(list(batches))
    switches = Switches(model)
    means: dict[Node, Tensor] = {}

    def record(node: Node, _: object, value: Tensor) -> None:
        means[node] = _channel_means(node, value)

    def correct(node: Node, _: object, value: Tensor) -> Tensor:
        error = means[node] - _channel_means(node, value)
        get_tensor(graph, node_args(node)[2]).add_(error)
        return value + error.view([-1 if axis == _channel_axis(node, value) else 1 for axis in range(value.dim())])

    switches.only(())
    run_with_hook(graph, images, biased, record)
    switches.all_but(())
    run_with_hook(graph, images, biased, correct)
    return len(biased)


def _channel_means(node: Node, value: Tensor) -> Tensor:
    return value.mean([axis for axis in range(value.dim()) if axis != _channel_axis(node, value)])


def _channel_axis(node: Node, value: Tensor) -> int:
    """1; the last axis for a linear layer, whose input may be tokens."""
    return value.dim() - 1 if node.target is torch.ops.aten.linear.default else 1
