"""Convolutions and linear layers of a graph, with the fake quantization of their weights, inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .pt2e import FakeQuantizeBase
from .quantizer import WEIGHTED, last_fused, layer_name

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer with all its calls, and the names of its fake quantization modules.

    Attributes:
        name: path of its module.
        nodes: its calls.
        weights: modules that quantize its weight.
        inputs: modules that quantize its input.
        outputs: modules that quantize its output, after the activation fused into it.
        own: modules that no other layer needs: `weights`, and `inputs` if the input is the images.
    """

    name: str
    nodes: tuple[Node, ...]
    weights: frozenset[str]
    inputs: frozenset[str]
    outputs: frozenset[str]
    own: frozenset[str]


def find_layers(graph: GraphModule) -> dict[str, QuantizedLayer]:
    """Return the layers of a graph, prepared or not, by name in graph order."""
    calls: dict[str, list[Node]] = {}
    for node in graph.graph.nodes:
        if node.target in WEIGHTED:
            calls.setdefault(layer_name(node), []).append(node)
    return {name: _layer(graph, name, nodes) for name, nodes in calls.items()}


def _layer(graph: GraphModule, name: str, nodes: list[Node]) -> QuantizedLayer:
    inputs = _fake_quantized(graph, [node.args[0] for node in nodes])
    weights = _fake_quantized(graph, [node.args[1] for node in nodes])
    outputs = _fake_quantized(graph, [user for node in nodes for user in last_fused(node).users])
    own = {module for module in inputs if _quantizes_images_for(graph, module, nodes)}
    return QuantizedLayer(name, tuple(nodes), weights, inputs, outputs, weights | own)


def _quantizes_images_for(graph: GraphModule, module: str, readers: list[Node]) -> bool:
    """Whether `module` quantizes only the images, and only for `readers`."""
    calls = [node for node in graph.graph.nodes if node.op == "call_module" and node.target == module]
    return all(call.args[0].op == "placeholder" and set(call.users) <= set(readers) for call in calls)


def _fake_quantized(graph: GraphModule, nodes: list[Any]) -> frozenset[str]:
    """Names of the fake quantization modules that these nodes call."""
    targets = [node.target for node in nodes if node.op == "call_module"]
    return frozenset(target for target in targets if isinstance(graph.get_submodule(target), FakeQuantizeBase))
