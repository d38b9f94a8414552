"""A model as a list of operator calls, which can be loaded and run without executing code from the file.

`torch.export.load` unpickles weights and constants with `weights_only=False`, and `torch.fx.GraphModule` generates
Python source from names in the file. Stored graphs are interpreted instead. Tracers see the same operators, so the
model can be exported again.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mbcompress.checkpoint.operators import ITEM, Operator, Operators, find_operator
from mbcompress.errors import MbcompressError, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

INPUT = "images"
NAME = re.compile(r"\w+(\.\w+){0,31}")  # deeper nesting could overflow the stack
NUMBERS = "float32 float16 bfloat16 float64 uint8 int8 int16 int32 int64 bool"
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in NUMBERS.split()}
FORMATS = {str(f).removeprefix("torch."): f for f in (torch.contiguous_format, torch.preserve_format)}


@dataclass(frozen=True)
class Value:
    """The result of an earlier call, or the model's input."""

    name: str


@dataclass(frozen=True)
class Weight:
    """A tensor of the model, by its name in the state dict."""

    name: str


@dataclass(frozen=True)
class Call:
    """`name = operator(*args, **kwargs)`; `last_use` lists values that no later call reads."""

    name: str
    operator: Operator
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    last_use: tuple[str, ...] = ()


def _decode(value: Any, known: set[str], weights: Mapping[str, Tensor]) -> Any:
    """Decode an argument encoded by `mbcompress.checkpoint.serialize`; `known` are the values defined so far."""
    match value:
        case None | bool() | int() | str() | float():
            return value
        case list():
            return [_decode(each, known, weights) for each in value]
        case {"value": str(name), **rest} if not rest and name in known:
            return Value(name)
        case {"weight": str(name), **rest} if not rest and name in weights:
            return Weight(name)
        case {"dtype": str(name), **rest} if not rest and name in DTYPES:
            return DTYPES[name]
        case {"memory_format": str(name), **rest} if not rest and name in FORMATS:
            return FORMATS[name]
        case {"float": "inf" | "-inf" | "nan" as text, **rest} if not rest:
            return float(text)
    raise MbcompressError(f"argument {shown(value)} is not a known value, weight or constant")


class GraphNetwork(nn.Module):
    """Runs a stored graph: (N, C, H, W) float32 -> (N, K).

    The graph was exported in eval mode: `train()` and `eval()` do not change its outputs.

    Args:
        document: the result of `serialize`.
        tensors: tensors by name, at least those in the document; the state dict has the same names.
        operators: operator sets that the graph can use besides `ALLOWED`.

    Raises:
        MbcompressError: the document is not a graph, or names unknown tensors or operators that are not allowed.
    """

    def __init__(self, document: Mapping[str, Any], tensors: Mapping[str, Tensor], operators: Operators) -> None:
        super().__init__()
        calls = list(_read_calls(document, tensors, operators))
        result = _decode(document.get("output"), {INPUT, *(call.name for call in calls)}, tensors)
        if not isinstance(result, Value):
            raise MbcompressError(f"output {shown(document.get('output'))} is not a value")
        self.graph_result = result.name
        self.graph_calls = _with_last_uses(calls, result.name)
        parameters = document.get("parameters")
        if not isinstance(parameters, list) or not all(isinstance(name, str) for name in parameters):
            raise MbcompressError("'parameters' must be a list of names")
        learned = frozenset(parameters)
        for name in _named(calls, Weight):
            _attach(self, name, tensors[name], learned=name in learned)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) float32 -> (N, K). Values are freed after their last use."""
        values: dict[str, Any] = {INPUT: images}
        for call in self.graph_calls:
            arguments = [self._resolve(each, values) for each in call.args]
            options = {key: self._resolve(each, values) for key, each in call.kwargs.items()}
            values[call.name] = call.operator(*arguments, **options)
            for name in call.last_use:
                del values[name]
        result: Tensor = values[self.graph_result]
        return result

    def _resolve(self, argument: Any, values: Mapping[str, Any]) -> Any:
        match argument:
            case Value(name):
                return values[name]
            case Weight(name):
                return operator.attrgetter(name)(self)
            case list():
                return [self._resolve(each, values) for each in argument]
        return argument


def _read_calls(document: Mapping[str, Any], tensors: Mapping[str, Tensor], operators: Operators) -> Iterator[Call]:
    nodes = document.get("nodes")
    if not isinstance(nodes, list):
        raise MbcompressError("'nodes' must be a list")
    known = {INPUT}
    for node in nodes:
        match node:
            case {"name": str(name), "operator": str(kind), "args": list(args)} if name not in known:
                kwargs = node.get("kwargs", {})
            case _:
                raise MbcompressError(f"node {shown(node)} must have a new 'name', an 'operator' and 'args'")
        try:
            function = find_operator(kind, operators)
        except KeyError:
            raise MbcompressError(f"operator {shown(kind)} is not allowed in a stored graph") from None
        if not isinstance(kwargs, dict):
            raise MbcompressError(f"node {shown(name)}: 'kwargs' must be a mapping")
        if kind == ITEM and not _picks(args):
            raise MbcompressError(f"node {shown(name)}: {ITEM!r} must have a value and a whole number as 'args'")
        options = {str(key): _decode(value, known, tensors) for key, value in kwargs.items()}
        yield Call(name, function, tuple(_decode(args, known, tensors)), options)
        known.add(name)


def _picks(args: list[Any]) -> bool:
    """Whether the arguments select an output of a call; literal lists could double in size with each call."""
    match args:
        case [{"value": str()}, int()]:
            return True
    return False


def _with_last_uses(calls: list[Call], result: str) -> list[Call]:
    """Return the calls with `last_use` set."""
    alive = {result}
    reversed_calls = []
    for call in reversed(calls):
        used = {*_named([call], Value), call.name}
        reversed_calls.append(Call(call.name, call.operator, call.args, call.kwargs, tuple(sorted(used - alive))))
        alive |= used
    return reversed_calls[::-1]


def _named(calls: list[Call], kind: type[Value | Weight]) -> list[str]:
    """Return the names of values or weights that the calls use, in order, without duplicates."""

    def walk(argument: Any) -> Iterator[str]:
        if isinstance(argument, kind):
            yield argument.name
        elif isinstance(argument, list | tuple):
            for each in argument:
                yield from walk(each)

    return list(dict.fromkeys(name for call in calls for name in walk([*call.args, *call.kwargs.values()])))


def _attach(network: nn.Module, name: str, tensor: Tensor, *, learned: bool) -> None:
    """Register `tensor` under a dotted name, creating empty modules as needed."""
    if not NAME.fullmatch(name):
        raise MbcompressError(f"tensor {shown(name)} has a name that no module can take")
    *way, last = name.split(".")
    owner = network
    try:
        for part in way:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        if learned and tensor.is_floating_point():
            owner.register_parameter(last, nn.Parameter(tensor))
        else:
            owner.register_buffer(last, tensor)
    except (KeyError, AttributeError) as error:
        raise MbcompressError(f"tensor {shown(name)} has a name that no module can take: {error}") from None
