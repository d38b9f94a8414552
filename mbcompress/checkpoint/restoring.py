"""Brings a compressed model back from the files of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbcompress.checkpoint.stored import ARCHITECTURE, GRAPH, LARGEST_STATE, STATE, Architecture, StoredStep, open_step
from mbcompress.errors import MbcompressError, SpecError, brief, first_line, unknown
from mbcompress.registry.discovery import discover

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from mbcompress.contract.models import ModelSource


def load(path: str | Path, *, model: nn.Module | None = None) -> nn.Module:
    """The model of a finished run, or of one of its steps, without the code that trained it.

    Nothing that is read can execute code: weights are safetensors, an architecture is a source's options and channel
    counts, and what no source can build again (int8, a module of somebody's own) is a graph of listed operators. Files
    are compared with the hashes of the run's manifest.

    Args:
        path: a run directory, for its final model, or a step such as `runs/x/steps/02-distill`.
        model: an unpruned module of the class that was compressed, for a model that came as a module; it is copied.
            Needed only where the model could not be stored as a graph; with it, the class is the caller's again.

    Returns:
        The model in eval mode on the CPU, (N, C, H, W) float32 -> (N, num_classes) logits.

    Raises:
        MbcompressError: `path` is no step, a file was changed, or what it holds does not fit together.
    """
    from mbcompress.checkpoint import rebuild

    step = open_step(path)
    architecture = step.architecture()
    shape = architecture.input_shape
    if architecture.form == "none":
        raise MbcompressError(f"{step.path}: holds no model that can be read back: {architecture.reason}")
    if model is not None:
        if architecture.layers is None:
            raise MbcompressError(f"{step.path}: is no longer a {type(model).__name__} but a graph; leave out model=")
        state = {name: tensor for name, tensor in _state(step).items() if name not in architecture.constants}
        return rebuild.from_module(model, architecture.layers, architecture.bypassed, state, step.path / STATE)
    if architecture.form == "graph":
        return rebuild.from_graph(step.read_json(GRAPH), _state(step), shape, step.path / GRAPH)
    if architecture.form == "source":
        source = _source(architecture, step.path / ARCHITECTURE)
        layers, without = architecture.layers or {}, architecture.bypassed
        return rebuild.from_source(source, layers, without, _state(step), shape, step.path / STATE)
    raise MbcompressError(
        f"{step.path}: needs the module that was compressed, as in load(path, model=MyNet()): {architecture.reason}"
    )


def _state(step: StoredStep) -> dict[str, Tensor]:
    from safetensors.torch import load as parse

    content = step.read(STATE, LARGEST_STATE)
    try:
        return parse(content)
    except Exception as error:  # beside SafetensorError, what PyTorch raises for shapes that it has no tensors for
        problem = brief(first_line(error))
        raise MbcompressError(f"{step.path / STATE}: is not a readable safetensors file: {problem}") from None


def _source(architecture: Architecture, place: Path) -> ModelSource:
    """The source that the options name, if its architecture follows from them."""
    options = {key: value for key, value in (architecture.source or {}).items() if key != "weights"}
    registry = discover()
    name = options.get("source")
    cls = registry.models.classes.get(name) if isinstance(name, str) else None
    if cls is None:
        raise MbcompressError(f"{place}: {unknown('model source', name, registry.models.classes)}")
    if not cls.rebuildable:  # asked before its options are looked at: they may name code
        raise MbcompressError(f"{place}: model source {name!r} cannot be built again from options alone")
    try:
        return registry.build_model(options)
    except SpecError as error:
        raise MbcompressError(f"{place}: source: {error}") from None
