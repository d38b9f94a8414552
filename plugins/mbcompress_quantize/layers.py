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
        own: those that round nothing where this layer stays in float: `weights`, and `inputs` if it reads the images.
    """

    name: str
    nodes: tuple[Node, ...]
    weights: frozenset[str]
    inputs: frozenset[str]
    outputs: frozenset[str]
    own: frozenset[str]


def layers(graph: GraphModule) -> dict[str, Layer]:
    """All layers of a graph, captured or prepared, by name, in order."""
    calls: dict[str, list[Node]] = {}
    for node in graph.graph.nodes:
        if node.target in WEIGHTED:
            calls.setdefault(layer_name(node), []).append(node)
    return {name: _layer(graph, name, nodes) for name, nodes in calls.items()}


def _layer(graph: GraphModule, name: str, nodes: list[Node]) -> Layer:
    def rounding(found: list[Any]) -> frozenset[str]:
        return frozenset(target for each in found for target in _rounding(graph, each))

    inputs = rounding([[node.args[0]] for node in nodes])
    weights = rounding([[node.args[1]] for node in nodes])
    outputs = rounding([list(last_fused(node).users) for node in nodes])
    own = {module for module in inputs if _only_rounds_images_for(graph, module, nodes)}
    return Layer(name, tuple(nodes), weights, inputs, outputs, weights | own)


def _only_rounds_images_for(graph: GraphModule, module: str, readers: list[Node]) -> bool:
    calls = [node for node in graph.graph.nodes if node.op == "call_module" and node.target == module]
    return all(call.args[0].op == "placeholder" and set(call.users) <= set(readers) for call in calls)


def _rounding(graph: GraphModule, nodes: list[Any]) -> list[str]:
    found = [node for node in nodes if node.op == "call_module"]
    return [node.target for node in found if isinstance(graph.get_submodule(node.target), FakeQuantizeBase)]
