"""Writes a step of a run so that its model can be read back without the code that made it."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mbcompress.checkpoint.architecture import bypassed, describe
from mbcompress.checkpoint.capture import capture
from mbcompress.checkpoint.graph import DTYPES
from mbcompress.checkpoint.rebuild import Shape, from_graph, from_source
from mbcompress.checkpoint.stored import ARCHITECTURE, GRAPH, METRICS, STATE, Architecture
from mbcompress.contract.traits import Trait
from mbcompress.errors import MbcompressError, brief, first_line
from mbcompress.files import write_atomically, write_json
from mbcompress.graph import noise, prepare_for_export

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mbcompress.contract.models import ModelSource


@dataclass(frozen=True)
class _Stored:
    """What is written for a model; `graph` where it is stored as one."""

    form: str
    state: Mapping[str, Tensor]
    graph: dict[str, Any] | None = None
    constants: tuple[str, ...] = ()
    reason: str = ""


def write_step(
    directory: Path,
    record: Mapping[str, Any],
    model: nn.Module,
    input_shape: Shape,
    traits: frozenset[Trait],
    source: ModelSource | None,
) -> None:
    """Metrics and model of one step.

    The model is written in the first form whose files give exactly its outputs when they are read back: the source with
    the sizes of its layers, or the graph of its operators. One that has neither is written as a state dict for a module
    of the caller's.

    Args:
        directory: absent, or empty.
        record: what metrics.json holds.
        model: in eval mode, on any device; it is not changed.
        input_shape: channels, height, width.
        traits: what can be said of the model.
        source: where the model came from, of an installed class; None for a module or a source of the caller's.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / METRICS, record)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns of its own internals
        plain = prepare_for_export(model)
        layers = describe(plain) if Trait.FLOAT in traits else None
        stored = _choose(plain, layers, input_shape, source, directory)
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
            "bypassed": bypassed(plain) if layers is not None else (),
            "constants": list(stored.constants),
        }
    )
    write_json(directory / ARCHITECTURE, architecture.model_dump(mode="json", by_alias=True))


def _choose(
    model: nn.Module, layers: dict[str, dict[str, int]] | None, shape: Shape, source: ModelSource | None, place: Path
) -> _Stored:
    everything = model.state_dict()
    state = {name: _own_copy(value) for name, value in everything.items() if isinstance(value, Tensor)}
    strange = [name for name in everything if name not in state or not _can_be_stored(everything[name])]
    if strange:
        return _Stored("none", {}, reason=f"its state dict holds {strange[0]}, which is no tensor of a plain dtype")
    if source is not None and source.rebuildable and layers is not None:
        try:
            if same_answers(from_source(source, layers, bypassed(model), state, shape, place), model, shape):
                return _Stored("source", state)
        except MbcompressError:
            pass  # a pass has changed more than sizes: the graph holds it
    try:
        return _as_graph(model, state, shape, place)
    except Exception as error:  # rebuilding and calling a stranger's graph may raise anything; the run must go on
        reason = brief(first_line(error))
        return _Stored("module" if layers is not None else "none", state, reason=reason)


def _as_graph(model: nn.Module, state: dict[str, Tensor], shape: Shape, place: Path) -> _Stored:
    document, tensors = capture(model, shape)
    constants = {name: _own_copy(tensor) for name, tensor in tensors.items() if name not in state}
    state = {**state, **constants}
    if not same_answers(from_graph(json.loads(json.dumps(document)), state, shape, place), model, shape):
        raise MbcompressError("the graph that torch.export captured gives other outputs")
    return _Stored("graph", state, document, tuple(constants))


def same_answers(rebuilt: nn.Module, model: nn.Module, shape: Shape) -> bool:
    """Whether both give the same numbers for the same noise, NaN for NaN."""
    images = noise((2, *shape))
    with torch.no_grad():
        return torch.allclose(rebuilt(images.clone()), model(images.clone()), rtol=0, atol=0, equal_nan=True)


def _own_copy(tensor: Tensor) -> Tensor:
    """Contiguous, with storage of its own: safetensors refuses tensors that share it."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _can_be_stored(value: object) -> bool:
    return type(value) in (Tensor, nn.Parameter) and str(getattr(value, "dtype", "")).removeprefix("torch.") in DTYPES


def _one_node_a_line(document: Mapping[str, Any]) -> str:
    """JSON that a reader can look through and a diff can show."""
    nodes = ",\n  ".join(json.dumps(node, allow_nan=False) for node in document["nodes"])
    rest = {key: value for key, value in document.items() if key != "nodes"}
    return f'{json.dumps(rest)[:-1]}, "nodes": [\n  {nodes}\n]}}\n'
