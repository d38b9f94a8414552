"""Operators of an annotated graph that stay in float, with reasons, for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch.fx import GraphModule, Node

aten = torch.ops.aten

REASONS: dict[str, str] = {
    "batch_norm": "no convolution before it to fold it into",
    "conv_transpose2d": "transposed convolutions are not quantized",
}
_MOVES = """
    alias channel_shuffle chunk clone contiguous detach dropout expand feature_dropout flatten getitem narrow permute
    pixel_shuffle reshape select slice split split_with_sizes squeeze stack to transpose unsqueeze view
"""
MOVES = frozenset(_MOVES.split())
"""Operators that only move values, so they need no quantization."""


def float_layers(graph: GraphModule, annotation: str, ignored: Collection[Node]) -> list[str]:
    """Return an entry such as 'blocks.3.attention (softmax: no int8 support)' for each operator without an annotation.

    Args:
        ignored: nodes that stay in float on request.
    """
    nodes = [node for node in graph.graph.nodes if node not in ignored and _stays_float(node, annotation)]
    return list(dict.fromkeys(map(_describe, nodes)))


def _stays_float(node: Node, annotation: str) -> bool:
    value = node.meta.get("val")
    if node.op != "call_function" or annotation in node.meta or not isinstance(value, torch.Tensor):
        return False
    return value.is_floating_point() and _operator(node) not in MOVES and _depends_on_input(node)


def _depends_on_input(node: Node) -> bool:
    """Whether `node` depends on the images; other nodes are computed once, at conversion."""
    pending, seen = [node], {node}
    while pending:
        for source in pending.pop().all_input_nodes:
            if source.op == "placeholder":
                return True
            if source not in seen:
                seen.add(source)
                pending.append(source)
    return False


def _operator(node: Node) -> str:
    name = getattr(node.target, "__name__", str(node.target)).partition(".")[0]
    return name.rstrip("_")


def _describe(node: Node) -> str:
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values() if path and not path.startswith("_")]
    kind = _operator(node)
    return f"{paths[-1] if paths else 'the model itself'} ({kind}: {REASONS.get(kind, 'no int8 support')})"
