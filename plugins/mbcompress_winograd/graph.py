"""Depthwise 3x3 convolutions in an exported graph: finding them with what can be folded, and replacing them."""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from mbcompress.graph.export import remove_unused
from mbcompress.graph.layout import copy_model

from .operators import operator as depthwise3x3
from .reference import pack
from .tiles import ACTIVATIONS, TILES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.fx import GraphModule

aten = torch.ops.aten
CONVOLUTIONS = (aten.conv2d.default, aten.conv2d.padding)
ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
DEFAULTS = {"bias": None, "stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
ACTIVATES = {
    aten.relu.default: "relu",
    aten.relu_.default: "relu",
    aten.relu6.default: "relu6",
    aten.relu6_.default: "relu6",
    aten.hardswish.default: "hardswish",
    aten.hardswish_.default: "hardswish",
}
LIMITS = (aten.hardtanh.default, aten.hardtanh_.default, aten.clamp.default, aten.clamp_.default)
KEPT_BACK = "packed3x3"
"""Name of the packed weights beside those that they were made of."""


@dataclass(frozen=True)
class Layer:
    """A depthwise 3x3 convolution with BatchNorm folded into it and the activation that follows.

    Attributes:
        name: of the weights' module, as in the model.
        nodes: names of the graph's nodes that it stands for, the convolution first.
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
        """Of input and output."""
        return len(self.weight)

    @property
    def outputs(self) -> int:
        """Values that one image gives."""
        height, width = ((length - 1) // self.stride + 1 for length in self.size)
        return self.channels * height * width


def find(graph: GraphModule) -> tuple[list[Layer], list[str]]:
    """The layers that can be replaced, and 'name (reason)' of every other convolution with groups."""
    layers, others = [], []
    convolutions = [(node, _arguments(node)) for node in graph.graph.nodes if node.target in CONVOLUTIONS]
    calls = Counter(str(given["weight"].target) for _, given in convolutions)
    for node, given in convolutions:
        if given["groups"] == 1:
            continue
        name = str(given["weight"].target).removesuffix(".weight")
        if reason := _problem(node, given, calls[str(given["weight"].target)]):
            others.append(f"{name} ({reason})")
        else:
            layers.append(_layer(graph, node, given, name))
    return layers, others


def replace(graph: GraphModule, layers: Mapping[str, str], found: list[Layer]) -> GraphModule:
    """A copy in which layers are computed by the operator.

    Args:
        graph: from `mbcompress.graph.export.capture`.
        layers: name -> name of the tile.
        found: what `find` gave for this graph.
    """
    twin = copy_model(graph)
    nodes = {node.name: node for node in twin.graph.nodes}
    for layer in found:
        if layer.name not in layers:
            continue
        old = [nodes[name] for name in layer.nodes]
        weight = pack(layer.weight, TILES[layers[layer.name]])
        owner, prefix = twin.get_submodule(layer.name), f"{layer.name}."
        owner.register_parameter(f"{KEPT_BACK}_weight", nn.Parameter(weight))
        owner.register_parameter(f"{KEPT_BACK}_bias", nn.Parameter(layer.bias.clone()))
        with twin.graph.inserting_before(old[-1]):
            constants = [twin.graph.get_attr(f"{prefix}{KEPT_BACK}_{kind}") for kind in ("weight", "bias")]
            arguments = (old[0].args[0], *constants, layer.stride, ACTIVATIONS.index(layer.activation))
            new = twin.graph.call_function(depthwise3x3(), arguments)
        old[-1].replace_all_uses_with(new)
        for node in reversed(old):
            twin.graph.erase_node(node)
    remove_unused(twin)
    return twin


def _arguments(node: fx.Node) -> dict[str, Any]:
    return {**DEFAULTS, **dict(zip(ARGUMENTS, node.args, strict=False)), **node.kwargs}


def _problem(node: fx.Node, given: dict[str, Any], calls: int) -> str:
    """Why this convolution cannot be replaced; empty if it can. Its weights are used by `calls` convolutions."""
    weight = given["weight"].meta["val"]
    stride, padding, dilation = (_pair(given[key]) for key in ("stride", "padding", "dilation"))
    if given["weight"].op != "get_attr":
        return "its weights are computed"
    if not str(given["weight"].target).endswith(".weight"):
        return "its weights are not a layer's"
    if calls > 1:  # each call may have a BatchNorm of its own behind it
        return f"its weights are used {calls} times"
    if weight.dtype != torch.float32:
        return f"weights are {str(weight.dtype).removeprefix('torch.')}, not float32"
    if tuple(weight.shape[2:]) != (3, 3):
        return f"kernel {weight.shape[2]}x{weight.shape[3]}, not 3x3"
    if weight.shape[1] != 1 or weight.shape[0] != given["groups"]:
        return f"{given['groups']} groups for {weight.shape[0]} channels, not depthwise"
    if stride not in ((1, 1), (2, 2)):
        return f"stride {stride[0]}x{stride[1]}"
    if dilation != (1, 1):
        return f"dilation {dilation[0]}x{dilation[1]}"
    if padding != (1, 1) and given["padding"] != "same":
        return f"padding {padding[0]}x{padding[1]}, not 1x1"
    if not all(isinstance(length, int) for length in node.meta["val"].shape[1:]):
        return "its size is not fixed"
    return ""


def _pair(value: Any) -> tuple[Any, Any]:
    values = value if isinstance(value, list | tuple) else [value]
    return (values[0], values[-1])


def _layer(graph: GraphModule, node: fx.Node, given: dict[str, Any], name: str) -> Layer:
    nodes = [node]
    weight, bias = _tensor(graph, given["weight"]), torch.zeros(given["groups"])
    if given["bias"] is not None:
        bias = _tensor(graph, given["bias"])
    following = _only_user(node)
    if following is not None and following.target is aten.batch_norm.default and not following.args[5]:
        weight, bias = _folded(graph, weight, bias, following.args)
        nodes.append(following)
    activation = "none"
    following = _only_user(nodes[-1])
    if following is not None and (found := _activation(following)):
        activation = found
        nodes.append(following)
    height, width = given["input"].meta["val"].shape[2:]
    names = tuple(each.name for each in nodes)
    return Layer(name, names, weight.clone(), bias.clone(), (height, width), _pair(given["stride"])[0], activation)


def _folded(graph: GraphModule, weight: Tensor, bias: Tensor, arguments: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Weight and bias with a BatchNorm in eval mode folded into them, computed in double precision."""
    scale, shift, mean, variance = (None if each is None else _tensor(graph, each).double() for each in arguments[1:5])
    assert mean is not None  # without statistics it would take those of the batch, which is not eval mode
    assert variance is not None
    gain = (variance + float(arguments[7])).rsqrt()
    gain = gain if scale is None else gain * scale
    moved = (bias.double() - mean) * gain
    moved = moved if shift is None else moved + shift
    return (weight.double() * gain[:, None, None, None]).float(), moved.float()


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _activation(node: fx.Node) -> str | None:
    if node.target in LIMITS:
        bounds = [*node.args[1:], *node.kwargs.values()]
        return "relu6" if bounds == [0, 6] else None
    return next((name for target, name in ACTIVATES.items() if node.target is target), None)


def _tensor(graph: GraphModule, node: fx.Node) -> Tensor:
    found: Tensor = operator.attrgetter(str(node.target))(graph)
    return found.detach()
