"""One spelling for each operation of a captured graph, whatever its author wrote, before int8 is laid over it.

Every rewrite keeps the function: relu6, clamp(0, 6) and relu(...).clamp(max=6) become hardtanh; x * relu6(x + 3) / 6
becomes x * hardsigmoid(x); a mean over height and width becomes a pooling; 'same' padding becomes numbers; a view,
which demands a certain memory layout, becomes a reshape, which does not.
"""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_weights

aten = torch.ops.aten

ADDS = {aten.add.Tensor, aten.add_.Tensor, aten.add.Scalar}
PRODUCTS = {aten.mul.Tensor, aten.mul_.Tensor, aten.mul.Scalar}
QUOTIENTS = {aten.div.Tensor, aten.div_.Tensor, aten.div.Scalar}
BOUNDS: dict[object, tuple[float, float]] = {
    aten.relu.default: (0, math.inf),
    aten.relu_.default: (0, math.inf),
    aten.relu6.default: (0, 6),
    aten.relu6_.default: (0, 6),
    aten.hardtanh.default: (-1, 1),
    aten.hardtanh_.default: (-1, 1),
    aten.clamp.default: (-math.inf, math.inf),
    aten.clamp_.default: (-math.inf, math.inf),
    aten.clamp_min.default: (-math.inf, math.inf),
    aten.clamp_min_.default: (-math.inf, math.inf),
    aten.clamp_max.default: (-math.inf, math.inf),
    aten.clamp_max_.default: (-math.inf, math.inf),
}
"""Operators that limit a tensor, with their limits where the call names none."""

UPPER_ONLY = {aten.clamp_max.default, aten.clamp_max_.default}

SYNONYMS: dict[Any, Any] = {
    aten.view.default: aten.reshape.default,
    aten.hardsigmoid_.default: aten.hardsigmoid.default,
    aten.sigmoid_.default: aten.sigmoid.default,
}
NOTHING = {
    aten.alias.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.dropout.default,
    aten.dropout_.default,
    aten.feature_dropout.default,
}
"""Operators that in eval mode give back what they get."""

GATES: dict[Any, Any] = {
    aten.hardswish.default: aten.hardsigmoid.default,
    aten.hardswish_.default: aten.hardsigmoid.default,
    aten.silu.default: aten.sigmoid.default,
    aten.silu_.default: aten.sigmoid.default,
}

BEFORE = object()
"""Stands for the result of the call before, in `_replace`."""


def simplify(module: GraphModule) -> None:
    """Rewrite the captured graph of a network, in place."""
    for rewrite in (_rename, _drop, _plain_padding, _plain_clamp, _hard_sigmoid, _plain_pool):
        for node in list(module.graph.nodes):
            if node.op == "call_function":
                rewrite(module, node)
    module.graph.eliminate_dead_code()
    module.recompile()


def fold_norms(module: GraphModule) -> None:
    """Fold each BatchNorm into the convolution before it, in place."""
    for node in list(module.graph.nodes):
        if node.target == aten.batch_norm.default and _is_foldable(node):
            _fold_norm(module, node)
    module.graph.eliminate_dead_code()
    module.recompile()


def bounds(node: Node) -> tuple[float, float] | None:
    """Lower and upper limit, where `node` limits its input to numbers known beforehand."""
    if node.target not in BOUNDS:
        return None
    limits: dict[str, Any] = dict(zip(("min", "max"), BOUNDS[node.target], strict=True))
    names = ("max",) if node.target in UPPER_ONLY else ("min", "max")
    limits |= zip(names, node.args[1:], strict=False)
    limits |= {name.removesuffix("_val"): value for name, value in node.kwargs.items()}
    if any(isinstance(limit, Node) for limit in limits.values()):
        return None
    low, high = limits["min"], limits["max"]
    return (-math.inf if low is None else low), (math.inf if high is None else high)


def _replace(module: GraphModule, node: Node, *calls: tuple[Any, ...]) -> None:
    """Put a chain of calls (operator, *arguments) in the place of `node`; BEFORE is what the call before gave."""
    new: Any = None
    for target, *arguments in calls:
        with module.graph.inserting_before(node):
            new = module.graph.call_function(target, tuple(new if arg is BEFORE else arg for arg in arguments))
        new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    module.graph.erase_node(node)


def arguments(node: Node) -> tuple[Any, ...]:
    """Positional arguments; torch.fx types each of them as all that one may ever be."""
    return node.args


def _is_foldable(norm: Node) -> bool:
    """Whether it is in eval mode, and nobody else uses the convolution before it or that one's weight."""
    x, *constants, training = arguments(norm)[:6]
    if training or x.target != aten.conv2d.default or len(x.users) != 1:
        return False
    read = [each for each in (*constants, *x.args[1:3]) if each is not None]
    return all(each.op == "get_attr" for each in read) and all(len(each.users) == 1 for each in x.args[1:3] if each)


def _fold_norm(module: GraphModule, norm: Node) -> None:
    convolution, scale, shift, mean, variance, _, _, eps, *_ = arguments(norm)
    weight, bias = (*convolution.args[1:3], None)[:2]

    def value(node: Node | None) -> Any:
        return None if node is None else attrgetter(str(node.target))(module)

    folded = fuse_conv_bn_weights(
        value(weight), value(bias), value(mean), value(variance), eps, value(scale), value(shift)
    )
    owner, _, attribute = str(weight.target).rpartition(".")
    layer = module.get_submodule(owner)
    setattr(layer, attribute, folded[0])
    target = f"{owner}.bias".lstrip(".") if bias is None else str(bias.target)
    module.get_submodule(target.rpartition(".")[0]).register_parameter(target.rpartition(".")[2], folded[1])
    if bias is None:
        with module.graph.inserting_before(convolution):
            bias = module.graph.get_attr(target)
        convolution.args = (*convolution.args[:2], bias, *convolution.args[3:])
    norm.replace_all_uses_with(convolution)
    module.graph.erase_node(norm)


def _rename(module: GraphModule, node: Node) -> None:
    node.target = SYNONYMS.get(node.target, node.target)


def _drop(module: GraphModule, node: Node) -> None:
    """Nothing is left of an operator that gives its input back."""
    if node.target in NOTHING and not any(node.kwargs.values()):
        node.replace_all_uses_with(arguments(node)[0])
        module.graph.erase_node(node)


def _plain_padding(module: GraphModule, node: Node) -> None:
    """conv2d(…, padding='same' or 'valid') -> numbers; an uneven sum is padded below and to the right, by a layer."""
    if node.target != aten.conv2d.padding:
        return
    defaults: tuple[Any, ...] = (None, None, None, [1, 1], "valid", [1, 1], 1)
    x, weight, bias, stride, padding, dilation, groups = (*arguments(node), *defaults[len(node.args) :])
    sums = [0, 0]
    if padding == "same":
        sums = [d * (k - 1) for d, k in zip(dilation, weight.meta["val"].shape[2:], strict=True)]
    halves = [each // 2 for each in sums]
    below, right = (each % 2 for each in sums)
    convolution = (weight, bias, stride, halves, dilation, groups)
    if below or right:
        pad = (aten.pad.default, x, [0, right, 0, below], "constant", 0.0)
        _replace(module, node, pad, (aten.conv2d.default, BEFORE, *convolution))
    else:
        _replace(module, node, (aten.conv2d.default, x, *convolution))


def _plain_clamp(module: GraphModule, node: Node) -> None:
    """One hardtanh or relu for a clamp, or for two in a row."""
    limits = bounds(node)
    if limits is None:
        return
    x: Any = node.args[0]
    low, high = limits
    inner = bounds(x) if len(x.users) == 1 else None
    if inner is not None and inner[0] <= high and low <= inner[1]:  # neither swallows the other whole
        low, high, x = max(low, inner[0]), min(high, inner[1]), x.args[0]
    if math.isfinite(low) and math.isfinite(high):
        _replace(module, node, (aten.hardtanh.default, x, float(low), float(high)))
    elif (low, high) == (0, math.inf):
        _replace(module, node, (aten.relu.default, x))


def _hard_sigmoid(module: GraphModule, node: Node) -> None:
    """Hardswish and silu as products; relu6(x + 3) / 6 and a * relu6(x + 3) / 6 through one hardsigmoid."""
    if node.target in GATES:
        x = node.args[0]
        _replace(module, node, (GATES[node.target], x), (aten.mul.Tensor, x, BEFORE))
        return
    scaled, factor = _scaled(node)
    if scaled is None or not math.isclose(factor, 1 / 6, rel_tol=1e-5):
        return
    if source := _shifted_relu6(scaled):
        _replace(module, node, (aten.hardsigmoid.default, source))
    elif scaled.target in PRODUCTS and len(scaled.users) == 1:
        for inner, other in (scaled.args[:2], scaled.args[1::-1]):
            if source := _shifted_relu6(inner):
                _replace(module, node, (aten.hardsigmoid.default, source), (aten.mul.Tensor, other, BEFORE))
                return


def _scaled(node: Node) -> tuple[Node | None, float]:
    """The tensor and the number, where `node` is a tensor times or over a number."""
    if node.target in PRODUCTS | QUOTIENTS and len(node.args) == 2 and not node.kwargs:
        x, number = node.args
        if isinstance(x, Node) and isinstance(number, int | float) and number:
            return x, number if node.target in PRODUCTS else 1 / number
    return None, 1.0


def _shifted_relu6(node: object) -> Node | None:
    """The x of relu6(x + 3)."""
    if not isinstance(node, Node) or bounds(node) != (0, 6):
        return None
    shifted = node.args[0]
    if not isinstance(shifted, Node) or shifted.target not in ADDS or shifted.kwargs or shifted.args[1] != 3:
        return None
    x = shifted.args[0]
    return x if isinstance(x, Node) else None


def _plain_pool(module: GraphModule, node: Node) -> None:
    """A mean over height and width, however it is written -> adaptive_avg_pool2d, which runtimes have in integers."""
    x, axes, keeps = _averaged(node)
    if x is None or axes != {2, 3} or x.meta["val"].dim() != 4:
        return
    flat = () if keeps else ((aten.flatten.using_ints, BEFORE, 1),)
    _replace(module, node, (aten.adaptive_avg_pool2d.default, x, [1, 1]), *flat)


def _averaged(node: Node) -> tuple[Any, set[int], bool]:
    """What is averaged, over which of its axes, and whether they are kept with size 1."""
    unknown = None, set[int](), False
    x: Any = node.args[0] if node.args else None
    if node.target == aten.avg_pool2d.default and len(node.args) == 2 and not node.kwargs:
        return (x, {2, 3}, True) if list(x.meta["val"].shape[2:]) == list(arguments(node)[1]) else unknown
    if node.target != aten.mean.dim or node.kwargs.keys() - {"keepdim"}:
        return unknown
    keeps = bool(node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False))
    axes = {axis % x.meta["val"].dim() for axis in arguments(node)[1]}
    if x.target == aten.flatten.using_ints and axes == {2} and not keeps:
        return (x.args[0], {2, 3}, False) if x.args[1:] in ((2,), (2, 3), (2, -1)) else unknown
    if x.target == aten.mean.dim:
        source, first, kept = _averaged(x)
        left = [axis for axis in range(4) if kept or axis not in first]
        return (source, first | {left[axis] for axis in axes}, keeps) if kept == keeps else unknown
    return x, axes, keeps
