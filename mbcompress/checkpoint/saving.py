"""Save the model of a pass so that it can be loaded without the code of the pass."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mbcompress.checkpoint.architecture import identities, layer_sizes
from mbcompress.checkpoint.graph import DTYPES
from mbcompress.checkpoint.operators import NO_OPERATORS
from mbcompress.checkpoint.pass_directory import ARCHITECTURE, GRAPH, METRICS, STATE, Architecture
from mbcompress.checkpoint.rebuild import Shape, from_graph, from_source
from mbcompress.checkpoint.serialize import serialize
from mbcompress.contract.traits import Trait
from mbcompress.errors import MbcompressError, brief, first_line
from mbcompress.files import write_atomically, write_json
from mbcompress.graph import noise, prepare_for_export

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mbcompress.checkpoint.operators import Operators
    from mbcompress.contract.models import ModelSource


@dataclass(frozen=True)
class _Stored:
    """What is stored of a model; `graph` is set if it is stored as a graph."""

    form: str
    state: Mapping[str, Tensor]
    graph: dict[str, Any] | None = None
    constants: tuple[str, ...] = ()
    reason: str = ""


def save_pass(
    directory: Path,
    record: Mapping[str, Any],
    model: nn.Module,
    input_shape: Shape,
    traits: frozenset[Trait],
    source: ModelSource | None,
    operators: Operators = NO_OPERATORS,
) -> None:
    """Save metrics and model of a pass.

    The model is stored in the first form that reproduces its outputs exactly: as a source with layer sizes, or as a
    graph of operators. Otherwise only a state dict is stored, to be loaded into the caller's module.

    Args:
        directory: missing or empty.
        record: the content of metrics.json.
        model: in eval mode, on any device; not modified.
        input_shape: channels, height, width.
        traits: traits of the model.
        source: the model source, if its class is installed; None for a caller's module or source.
        operators: operator sets of installed plugins, which a graph can use.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / METRICS, record)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns about its internals
        plain = prepare_for_export(model)
        layers = layer_sizes(plain) if Trait.FLOAT in traits else None
        stored = _stored(plain, layers, input_shape, source, directory, operators)
    if stored.graph is not None:
        write_atomically(directory / GRAPH, _one_node_a_line(stored.graph))
    if stored.form != "none":
        write_atomically(directory / STATE, save(dict(stored.state)))
    architecture = Architecture.model_validate(
        {
            "schema": 1,
            "form": stored.form,
            "reason": stored.reason,
            "input_shape": input_shape,
            "traits": sorted(traits),
            "source": source and {"source": source.name, **source.as_written()},
            "layers": layers,
            "bypassed": identities(plain) if layers is not None else (),
            "constants": list(stored.constants),
        }
    )
    write_json(directory / ARCHITECTURE, architecture.model_dump(mode="json", by_alias=True))


def _stored(
    model: nn.Module,
    layers: dict[str, dict[str, int]] | None,
    shape: Shape,
    source: ModelSource | None,
    place: Path,
    operators: Operators,
) -> _Stored:
    everything = model.state_dict()
    state = {name: _own_copy(value) for name, value in everything.items() if isinstance(value, Tensor)}
    unusual = [name for name in everything if name not in state or not _can_be_stored(everything[name])]
    if unusual:
        return _Stored("none", {}, reason=f"its state dict holds {unusual[0]}, which is not a tensor of a plain dtype")
    if source is not None and source.rebuildable and layers is not None:
        try:
            if outputs_equal(from_source(source, layers, identities(model), state, shape, place), model, shape):
                return _Stored("source", state)
        except MbcompressError:
            pass  # a pass changed more than layer sizes; store a graph
    try:
        return _as_graph(model, state, shape, place, operators)
    except Exception as error:  # exporting a user's module can raise anything
        reason = brief(first_line(error))
        return _Stored("module" if layers is not None else "none", state, reason=reason)


def _as_graph(model: nn.Module, state: dict[str, Tensor], shape: Shape, place: Path, operators: Operators) -> _Stored:
    document, tensors = serialize(model, shape, operators)
    constants = {name: _own_copy(tensor) for name, tensor in tensors.items() if name not in state}
    state = {**state, **constants}
    loaded = from_graph(json.loads(json.dumps(document)), state, shape, place, operators)
    if not outputs_equal(loaded, model, shape):
        raise MbcompressError("the graph from torch.export has different outputs")
    return _Stored("graph", state, document, tuple(constants))


def outputs_equal(one: nn.Module, other: nn.Module, shape: Shape) -> bool:
    """Whether both models have equal outputs for random input; NaN equals NaN."""
    images = noise((2, *shape))
    with torch.no_grad():
        return torch.allclose(one(images.clone()), other(images.clone()), rtol=0, atol=0, equal_nan=True)


def _own_copy(tensor: Tensor) -> Tensor:
    """Return a contiguous copy with its own storage, because safetensors rejects shared storage."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _can_be_stored(value: object) -> bool:
    return type(value) in (Tensor, nn.Parameter) and str(getattr(value, "dtype", "")).removeprefix("torch.") in DTYPES


def _one_node_a_line(document: Mapping[str, Any]) -> str:
    """Return JSON with one node per line, for diffs."""
    nodes = ",\n  ".join(json.dumps(node, allow_nan=False) for node in document["nodes"])
    rest = {key: value for key, value in document.items() if key != "nodes"}
    return f'{json.dumps(rest)[:-1]}, "nodes": [\n  {nodes}\n]}}\n'
