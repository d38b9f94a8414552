"""Convolutions and linear layers of a prepared graph, each with what rounds its weight, its input and its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchao.quantization.pt2e import FakeQuantizeBase

from .quantizer import WEIGHTED, last_fused, layer_name

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


@dataclass(frozen=True)
class Layer:
    """A layer that is called once or more, all its calls together.

    Attributes:
        name: path of its module.
        nodes: its calls.
        weights: modules that round its weight.
        inputs: modules that round what it reads.
        outputs: modules that round what comes out of it, or of the activation fused into it.
    """

    name: str
    nodes: tuple[Node, ...]
    weights: frozenset[str]
    inputs: frozenset[str]
    outputs: frozenset[str]


def layers(graph: GraphModule) -> dict[str, Layer]:
    """All layers of a graph, captured or prepared, by name, in order."""
    calls: dict[str, list[Node]] = {}
    for node in graph.graph.nodes:
        if node.target in WEIGHTED:
            calls.setdefault(layer_name(node), []).append(node)
    return {
        name: Layer(
            name,
            tuple(nodes),
            frozenset(target for node in nodes for target in _rounding(graph, [node.args[1]])),
            frozenset(target for node in nodes for target in _rounding(graph, [node.args[0]])),
            frozenset(target for node in nodes for target in _rounding(graph, list(last_fused(node).users))),
        )
        for name, nodes in calls.items()
    }


def _rounding(graph: GraphModule, nodes: list[Any]) -> list[str]:
    found = [node for node in nodes if node.op == "call_module"]
    return [node.target for node in found if isinstance(graph.get_submodule(node.target), FakeQuantizeBase)]
