"""Helpers for nodes of `torch.fx` graphs: arguments, tensors, clamp bounds and replacement."""

from __future__ import annotations

import math
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

if TYPE_CHECKING:
    from torch.fx import GraphModule

aten = torch.ops.aten

DEFAULT_BOUNDS: dict[object, tuple[float, float]] = {
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
"""Clamp operators with their default bounds."""

UPPER_ONLY = {aten.clamp_max.default, aten.clamp_max_.default}

PREVIOUS = object()
"""Placeholder for the result of the previous call in `replace_node`."""


def node_args(node: Node) -> tuple[Any, ...]:
    """Return `node.args` typed as Any, because torch.fx types them as a large union."""
    return node.args


def get_tensor(graph: GraphModule, node: Node) -> Any:
    """Return the parameter or buffer that a get_attr node names."""
    return attrgetter(str(node.target))(graph)


def clamp_bounds(node: Node) -> tuple[float, float] | None:
    """Return the lower and upper bound if `node` clamps its input to constants (as ReLU and ReLU6 do), else None."""
    if node.target not in DEFAULT_BOUNDS:
        return None
    bounds: dict[str, Any] = dict(zip(("min", "max"), DEFAULT_BOUNDS[node.target], strict=True))
    names = ("max",) if node.target in UPPER_ONLY else ("min", "max")
    bounds |= zip(names, node.args[1:], strict=False)
    bounds |= {name.removesuffix("_val"): value for name, value in node.kwargs.items()}
    if any(isinstance(bound, Node) for bound in bounds.values()):
        return None
    low, high = bounds["min"], bounds["max"]
    return (-math.inf if low is None else low), (math.inf if high is None else high)


def replace_node(graph: GraphModule, node: Node, *calls: tuple[Any, ...]) -> None:
    """Replace `node` with a chain of calls (operator, *arguments); PREVIOUS stands for the previous call's result."""
    result: Any = None
    for target, *arguments in calls:
        with graph.graph.inserting_before(node):
            result = graph.graph.call_function(target, tuple(result if arg is PREVIOUS else arg for arg in arguments))
        result.meta = dict(node.meta)
    node.replace_all_uses_with(result)
    graph.graph.erase_node(node)
