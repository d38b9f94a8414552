"""From a live model to the stored graph of `mbcompress.checkpoint.graph`, by way of torch.export."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from mbcompress.checkpoint.graph import DTYPES, FORMATS, INPUT
from mbcompress.checkpoint.operators import changes_its_input, name_of, operator_named
from mbcompress.errors import MbcompressError, shown
from mbcompress.graph import export_program


def capture(model: nn.Module, input_shape: tuple[int, int, int]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `model` computes in eval mode, as a JSON document and the tensors it names.

    Args:
        model: (N, C, H, W) float32 -> (N, K), on the CPU.
        input_shape: C, H, W.

    Raises:
        MbcompressError: torch.export cannot capture it, or it uses something that a stored graph cannot hold.
    """
    module = export_program(model, torch.zeros(2, *input_shape), "storage").module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    encoder = _Encoder()
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
    """The node whose value is returned: the output is a tuple of one."""
    returned = graph.output_node().args[0]
    if isinstance(returned, list | tuple) and len(returned) == 1 and isinstance(returned[0], fx.Node):
        return returned[0]
    raise MbcompressError("the model returns something else than one tensor")


def _alive(graph: fx.Graph) -> list[fx.Node]:
    """Nodes that the result depends on, in order; assertions of the exporter are not among them."""
    needed = {_result(graph)}
    for node in reversed(graph.nodes):
        if node in needed or changes_its_input(node.target):
            needed.update([node, *node.all_input_nodes])
    return [node for node in graph.nodes if node in needed]


class _Encoder:
    """From nodes of torch.fx to JSON; remembers which tensors they name."""

    def __init__(self) -> None:
        self.weights: set[str] = set()

    def call(self, node: fx.Node) -> dict[str, Any]:
        name = name_of(node.target)
        try:
            operator_named(name)
        except KeyError:
            raise MbcompressError(f"operator {name} is not among those that a stored graph may hold") from None
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
        raise MbcompressError(f"argument {shown(value)} is not one that a stored graph may hold")
