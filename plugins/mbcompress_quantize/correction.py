"""Bias correction: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019,
https://arxiv.org/abs/1906.04721, section 4.2, with calibration images in place of BatchNorm's statistics.

Rounding weights and activations moves the mean of a layer's outputs, channel by channel. Layers are corrected in the
network's order, each with those before it quantized and corrected already, in one forward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Interpreter

from .calibration import quiet
from .layers import layers
from .rewrites import arguments
from .sensitivity import Switches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.fx import Node

    from .graph import FakeQuantized


@torch.no_grad()
def correct_biases(model: FakeQuantized, batches: Sequence[Tensor]) -> int:
    """Correct the biases in place, and say of how many layers."""
    found = {layer.nodes[0] for layer in layers(model.captured).values() if len(layer.nodes) == 1}
    biased = {node for node in found if len(node.args) > 2 and node.args[2] is not None}
    images = torch.cat(list(batches))
    switches = Switches(model)
    means: dict[Node, Tensor] = {}

    class Recorder(Interpreter):
        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            if n in biased:
                means[n] = _channel_means(n, value)
            return value

    class Corrector(Interpreter):
        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            if n not in biased:
                return value
            error = means[n] - _channel_means(n, value)
            model.captured.get_parameter(str(arguments(n)[2].target)).add_(error)
            return value + error.view([-1 if axis == _channel_axis(n, value) else 1 for axis in range(value.dim())])

    with quiet():
        switches.only(())
        Recorder(model.captured).run(images)
        switches.all_but(())
        Corrector(model.captured).run(images)
    return len(biased)


def _channel_means(node: Node, value: Tensor) -> Tensor:
    return value.mean([axis for axis in range(value.dim()) if axis != _channel_axis(node, value)])


def _channel_axis(node: Node, value: Tensor) -> int:
    """Of a linear layer, which may be given tokens, the last one."""
    return value.dim() - 1 if node.target is torch.ops.aten.linear.default else 1
