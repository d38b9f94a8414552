"""Serialize a model with torch.export to a graph that `mbcompress.checkpoint.graph` can run."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from mbcompress.checkpoint.graph import DTYPES, FORMATS, INPUT
from mbcompress.checkpoint.operators import Operators, find_operator, is_in_place, operator_name
from mbcompress.errors import MbcompressError, shown
from mbcompress.graph import export_program


def serialize(
    model: nn.Module, input_shape: tuple[int, int, int], operators: Operators
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the graph of `model` in eval mode as a JSON document, and its tensors by name.

    Args:
        model: (N, C, H, W) float32 -> (N, K), on the CPU.
        input_shape: C, H, W.
        operators: operator sets that the graph can use besides `ALLOWED`.

    Raises:
        MbcompressError: torch.export fails, or the model uses something that a stored graph does not support.
    """
    module = export_program(model, torch.zeros(2, *input_shape), "storage").module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    encoder = _Encoder(operators)
    nodes = [encoder.call(node) for node in _alive(module.graph) if node.op == "call_function"]
    tensors = {name: operator.attrgetter(name)(module) for name in sorted(encoder.weights)}
    learned = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    document = {
        "input": INPUT,
        "nodes": nodes,
        "output": encoder.encode(_result(module.graph)),
        "parameters": sorted(learned & set(tensors)),
    }
    return document, tensors


def _result(graph: fx.Graph) -> fx.Node:
    """Return the graph's only output node."""
    returned = graph.output_node().args[0]
    if isinstance(returned, list | tuple) and len(returned) == 1 and isinstance(returned[0], fx.Node):
        return returned[0]
    raise MbcompressError("the model must return one tensor")


def _alive(graph: fx.Graph) -> list[fx.Node]:
    """Return the nodes that the result depends on, in order, without the exporter's assertions."""
    needed = {_result(graph)}
    for node in reversed(graph.nodes):
        if node in needed or is_in_place(node.target):
            needed.update([node, *node.all_input_nodes])
    return [node for node in graph.nodes if node in needed]


class _Encoder:
    """Encodes torch.fx nodes as JSON and collects the names of their tensors."""

    def __init__(self, operators: Operators) -> None:
        self.operators = operators
        self.weights: set[str] = set()

    def call(self, node: fx.Node) -> dict[str, Any]:
        name = operator_name(node.target)
        try:
            find_operator(name, self.operators)
        except KeyError:
            raise MbcompressError(f"operator {name} is not allowed in a stored graph") from None
        kwargs = {key: self.encode(value) for key, value in node.kwargs.items()}
        args = [self.encode(value) for value in node.args]
        return {"name": node.name, "operator": name, "args": args, **({"kwargs": kwargs} if kwargs else {})}

    def encode(self, value: Any) -> Any:
        match value:
            case fx.Node(op="get_attr"):
                self.weights.add(str(value.target))
                return {"weight": value.target}
            case fx.Node(op="placeholder"):
                return {"value": INPUT}
            case fx.Node():
                return {"value": value.name}
            case None | bool() | int() | str():
                return value
            case float():
                return value if math.isfinite(value) else {"float": repr(value)}
            case list() | tuple():
                return [self.encode(each) for each in value]
            case torch.dtype() if (name := str(value).removeprefix("torch.")) in DTYPES:
                return {"dtype": name}
            case torch.memory_format() if (name := str(value).removeprefix("torch.")) in FORMATS:
                return {"memory_format": name}
        raise MbcompressError(f"argument {shown(value)} cannot be stored in a graph")
