"""Find and replace depthwise 3x3 convolutions, with their BatchNorm and activation, in an exported graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from mbcompress.graph import clamp_bounds, copy_model, fold_weights, get_tensor, remove_unused

from .operators import operator
from .reference import pack
from .tiles import ACTIVATIONS, TILES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.fx import GraphModule

aten = torch.ops.aten
CONVOLUTIONS = (aten.conv2d.default, aten.conv2d.padding)
ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
DEFAULTS = {"bias": None, "stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
FUSED: dict[Any, str] = {
    aten.relu.default: "relu",
    aten.relu_.default: "relu",
    aten.hardswish.default: "hardswish",
    aten.hardswish_.default: "hardswish",
}
PACKED = "packed3x3"
"""Prefix of the names of a layer's packed weight and bias."""


@dataclass(frozen=True)
class DepthwiseLayer:
    """A depthwise 3x3 convolution with its BatchNorm folded in, and its activation.

    Attributes:
        name: path of the convolution's module.
        nodes: names of its nodes in the graph, the convolution first.
        weight: (C, 1, 3, 3) float32.
        bias: (C,) float32.
        size: height and width of the input.
        stride: 1 or 2.
    """

    name: str
    nodes: tuple[str, ...]
    weight: Tensor
    bias: Tensor
    size: tuple[int, int]
    stride: int
    activation: str

    @property
    def channels(self) -> int:
        """Number of input and output channels."""
        return len(self.weight)


def find_depthwise(graph: GraphModule) -> tuple[list[DepthwiseLayer], list[str]]:
    """Return the layers that can be replaced, and 'name (reason)' for every other grouped convolution."""
    layers, ineligible = [], []
    convolutions = [(node, _arguments(node)) for node in graph.graph.nodes if node.target in CONVOLUTIONS]
    calls = Counter(str(arguments["weight"].target) for _, arguments in convolutions)
    for node, arguments in convolutions:
        if arguments["groups"] == 1:
            continue
        target = str(arguments["weight"].target)
        name = target.removesuffix(".weight")
        if reason := _ineligibility(node, arguments, calls[target]):
            ineligible.append(f"{name} ({reason})")
        else:
            layers.append(_layer(graph, node, arguments, name))
    return layers, ineligible


def replace_depthwise(graph: GraphModule, tiles: Mapping[str, str], layers: Sequence[DepthwiseLayer]) -> GraphModule:
    """Return a copy of the graph in which the layers with a tile call the custom operator.

    Args:
        graph: from `mbcompress.graph.export_graph`.
        tiles: name of a layer -> name of its tile.
        layers: from `find_depthwise` of this graph.
    """
    replaced = copy_model(graph)
    nodes = {node.name: node for node in replaced.graph.nodes}
    for layer in layers:
        if layer.name not in tiles:
            continue
        old = [nodes[name] for name in layer.nodes]
        owner = replaced.get_submodule(layer.name)
        owner.register_parameter(f"{PACKED}_weight", nn.Parameter(pack(layer.weight, TILES[tiles[layer.name]])))
        owner.register_parameter(f"{PACKED}_bias", nn.Parameter(layer.bias.clone()))
        with replaced.graph.inserting_before(old[-1]):
            constants = [replaced.graph.get_attr(f"{layer.name}.{PACKED}_{kind}") for kind in ("weight", "bias")]
            arguments = (old[0].args[0], *constants, layer.stride, ACTIVATIONS.index(layer.activation))
            new = replaced.graph.call_function(operator(), arguments)
        old[-1].replace_all_uses_with(new)
        for node in reversed(old):
            replaced.graph.erase_node(node)
    remove_unused(replaced)
    return replaced


def _arguments(node: fx.Node) -> dict[str, Any]:
    return {**DEFAULTS, **dict(zip(ARGUMENTS, node.args, strict=False)), **node.kwargs}


def _ineligibility(node: fx.Node, arguments: dict[str, Any], calls: int) -> str:
    """Why this convolution cannot be replaced; empty if it can. `calls` is how many convolutions use its weight."""
    weight, groups = arguments["weight"].meta["val"], arguments["groups"]
    stride, padding, dilation = (_pair(arguments[key]) for key in ("stride", "padding", "dilation"))
    if arguments["weight"].op != "get_attr":
        return "its weights are computed"
    if not str(arguments["weight"].target).endswith(".weight"):
        return "its weights are not a layer's"
    if calls > 1:  # each call may have its own BatchNorm
        return f"its weights are used {calls} times"
    if weight.dtype != torch.float32:
        return f"weights are {str(weight.dtype).removeprefix('torch.')}, not float32"
    if tuple(weight.shape[2:]) != (3, 3):
        return f"kernel {weight.shape[2]}x{weight.shape[3]}, not 3x3"
    if weight.shape[1] != 1 or weight.shape[0] != groups:
        return f"{groups} groups for {weight.shape[0]} channels, not depthwise"
    if stride not in ((1, 1), (2, 2)):
        return f"stride {stride[0]}x{stride[1]}"
    if dilation != (1, 1):
        return f"dilation {dilation[0]}x{dilation[1]}"
    if padding != (1, 1) and arguments["padding"] != "same":
        return f"padding {padding[0]}x{padding[1]}, not 1x1"
    if not all(isinstance(length, int) for length in node.meta["val"].shape[1:]):
        return "its size is not fixed"
    return ""


def _pair(value: Any) -> tuple[Any, Any]:
    values = value if isinstance(value, list | tuple) else [value]
    return (values[0], values[-1])


def _layer(graph: GraphModule, node: fx.Node, arguments: dict[str, Any], name: str) -> DepthwiseLayer:
    names, last = [node.name], node
    weight, bias = get_tensor(graph, arguments["weight"]), torch.zeros(arguments["groups"])
    if arguments["bias"] is not None:
        bias = get_tensor(graph, arguments["bias"])
    following = _only_user(last)
    if following is not None and following.target is aten.batch_norm.default and not following.args[5]:
        folded = fold_weights(graph, arguments["weight"], arguments["bias"], following, torch.float64)
        weight, bias = (tensor.float() for tensor in folded)
        names.append(following.name)
        last = following
    activation = "none"
    following = _only_user(last)
    if following is not None and (fused := _activation(following)):
        activation = fused
        names.append(following.name)
    height, width = arguments["input"].meta["val"].shape[2:]
    weight, bias, stride = weight.detach().clone(), bias.detach().clone(), _pair(arguments["stride"])[0]
    return DepthwiseLayer(name, tuple(names), weight, bias, (height, width), stride, activation)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _activation(node: fx.Node) -> str | None:
    return "relu6" if clamp_bounds(node) == (0, 6) else FUSED.get(node.target)
