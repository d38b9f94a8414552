"""Rewrite equivalent operations of an exported graph into one canonical form.

relu6, clamp(0, 6) and relu(...).clamp(max=6) become hardtanh; x * relu6(x + 3) / 6 becomes x * hardsigmoid(x); a mean
over height and width becomes adaptive_avg_pool2d; 'same' padding becomes numbers; view becomes reshape, which does not
depend on the memory layout.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from mbcompress.graph.hard_sigmoid import recognize_hard_sigmoid
from mbcompress.graph.nodes import PREVIOUS, clamp_bounds, node_args, replace_node

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

aten = torch.ops.aten

SYNONYMS: dict[Any, Any] = {
    aten.view.default: aten.reshape.default,
    aten.hardsigmoid_.default: aten.hardsigmoid.default,
    aten.sigmoid_.default: aten.sigmoid.default,
}
IDENTITIES = {
    aten.alias.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.dropout.default,
    aten.dropout_.default,
    aten.feature_dropout.default,
}
"""Operators that return their input in eval mode."""


def canonicalize(graph: GraphModule) -> None:
    """Rewrite an exported graph into its canonical form, in place."""
    for rewrite in (_rename, _drop_identity, _explicit_padding, _merge_clamps, recognize_hard_sigmoid, _use_pooling):
        for node in list(graph.graph.nodes):
            if node.op == "call_function":
                rewrite(graph, node)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _rename(graph: GraphModule, node: Node) -> None:
    node.target = SYNONYMS.get(node.target, node.target)


def _drop_identity(graph: GraphModule, node: Node) -> None:
    if node.target in IDENTITIES and not any(node.kwargs.values()):
        node.replace_all_uses_with(node_args(node)[0])
        graph.graph.erase_node(node)


def _explicit_padding(graph: GraphModule, node: Node) -> None:
    """Replace padding='same' or 'valid' with numbers; asymmetric padding adds a pad at the bottom and right."""
    if node.target != aten.conv2d.padding:
        return
    defaults: tuple[Any, ...] = (None, None, None, [1, 1], "valid", [1, 1], 1)
    x, weight, bias, stride, padding, dilation, groups = (*node_args(node), *defaults[len(node.args) :])
    sums = [0, 0]
    if padding == "same":
        sums = [d * (k - 1) for d, k in zip(dilation, weight.meta["val"].shape[2:], strict=True)]
    halves = [total // 2 for total in sums]
    below, right = (total % 2 for total in sums)
    convolution = (weight, bias, stride, halves, dilation, groups)
    if below or right:
        pad = (aten.pad.default, x, [0, right, 0, below], "constant", 0.0)
        replace_node(graph, node, pad, (aten.conv2d.default, PREVIOUS, *convolution))
    else:
        replace_node(graph, node, (aten.conv2d.default, x, *convolution))


def _merge_clamps(graph: GraphModule, node: Node) -> None:
    """Replace one or two consecutive clamps with one hardtanh or relu."""
    bounds = clamp_bounds(node)
    if bounds is None:
        return
    x: Any = node.args[0]
    low, high = bounds
    inner = clamp_bounds(x) if len(x.users) == 1 else None
    if inner is not None and inner[0] <= high and low <= inner[1]:  # the ranges overlap
        low, high, x = max(low, inner[0]), min(high, inner[1]), x.args[0]
    if math.isfinite(low) and math.isfinite(high):
        replace_node(graph, node, (aten.hardtanh.default, x, float(low), float(high)))
    elif (low, high) == (0, math.inf):
        replace_node(graph, node, (aten.relu.default, x))


def _use_pooling(graph: GraphModule, node: Node) -> None:
    """Replace any mean over height and width with adaptive_avg_pool2d, which runtimes support in int8."""
    x, axes, keeps = _averaged(node)
    if x is None or axes != {2, 3} or x.meta["val"].dim() != 4:
        return
    flatten = () if keeps else ((aten.flatten.using_ints, PREVIOUS, 1),)
    replace_node(graph, node, (aten.adaptive_avg_pool2d.default, x, [1, 1]), *flatten)


def _averaged(node: Node) -> tuple[Any, set[int], bool]:
    """Return the averaged tensor, the axes of the mean, and whether they are kept (`keepdim`)."""
    unknown = None, set[int](), False
    x: Any = node.args[0] if node.args else None
    if node.target == aten.avg_pool2d.default and len(node.args) == 2 and not node.kwargs:
        return (x, {2, 3}, True) if list(x.meta["val"].shape[2:]) == list(node_args(node)[1]) else unknown
    if node.target != aten.mean.dim or node.kwargs.keys() - {"keepdim"}:
        return unknown
    keeps = bool(node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False))
    axes = {axis % x.meta["val"].dim() for axis in node_args(node)[1]}
    if x.target == aten.flatten.using_ints and axes == {2} and not keeps:
        return (x.args[0], {2, 3}, False) if x.args[1:] in ((2,), (2, 3), (2, -1)) else unknown
    if x.target == aten.mean.dim:
        source, first, kept = _averaged(x)
        left = [axis for axis in range(4) if kept or axis not in first]
        return (source, first | {left[axis] for axis in axes}, keeps) if kept == keeps else unknown
    return x, axes, keeps
