"""Find the layers of a model whose weights can be pruned."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor


class Layers(NamedTuple):
    """Names of weights, in the order of their layers' calls.

    Attributes:
        pruned: weights to prune.
        every: weights of all convolutions and linear layers.
        dense: 'layer (reason)' for each layer that does not fit the pattern.
    """

    pruned: list[str]
    every: list[str]
    dense: list[str]


def find_layers(model: nn.Module, example: Tensor, *, depthwise: bool, group: int | None) -> Layers:
    """Return the convolutions and linear layers that a forward pass calls; the first is not pruned.

    Args:
        model: in eval mode.
        example: (N, C, H, W) float32.
        depthwise: whether to prune depthwise convolutions.
        group: the M of N:M; None without a pattern.
    """
    found = Layers([], [], [])
    for position, (name, layer) in enumerate(_called(model, example).items()):
        found.every.append(f"{name}.weight")
        inputs = layer.weight.shape[1]
        if position == 0 or (_is_depthwise(layer) and not depthwise):
            continue
        if group and inputs % group:
            found.dense.append(f"{name} ({inputs} input channel{'s' if inputs > 1 else ''}, not a multiple of {group})")
        else:
            found.pruned.append(f"{name}.weight")
    return found


def share_of_zeros(model: nn.Module, names: Collection[str]) -> float:
    """Return the fraction of zeros among all these weights together."""
    weights = [model.get_parameter(name) for name in names]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def _is_depthwise(layer: nn.Conv2d | nn.Linear) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups > 1 and layer.weight.shape[1] == 1


def _called(model: nn.Module, example: Tensor) -> dict[str, nn.Conv2d | nn.Linear]:
    """Layers by name, in the order of their first call; only the first of layers that share a weight."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    layers: dict[str, nn.Conv2d | nn.Linear] = {}

    def note(layer: nn.Module, *_: object) -> None:
        # a parametrized layer computes `weight` from other parameters
        weight = dict(layer.named_parameters(recurse=False)).get("weight")
        if weight is not None and names[weight].endswith(".weight"):
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            layers.setdefault(names[weight].removesuffix(".weight"), layer)

    hooks = [
        module.register_forward_hook(note) for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.no_grad():
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return layers
