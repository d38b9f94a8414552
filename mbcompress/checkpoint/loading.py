"""Load a compressed model from the files of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbcompress.checkpoint.pass_directory import (
    ARCHITECTURE,
    GRAPH,
    LARGEST_STATE,
    STATE,
    Architecture,
    PassDirectory,
    open_pass,
)
from mbcompress.errors import MbcompressError, SpecError, brief, first_line, unknown
from mbcompress.registry.discovery import Registry, discover

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from mbcompress.contract.models import ModelSource


def load(path: str | Path, *, model: nn.Module | None = None, registry: Registry | None = None) -> nn.Module:
    """Load the model of a finished run, or of one of its passes, without the code that trained it.

    No file can execute code: weights are safetensors, architectures are options of a model source with layer sizes, and
    other models (int8, your own modules) are graphs of allowed operators. Files are verified against the hashes in the
    run's manifest.

    Args:
        path: a run directory, for its final model, or the directory of a pass, such as `runs/x/passes/02-distill`.
        model: an unpruned module of the compressed class, which is copied. Only required if the model could not be
            stored as a graph. If given, the result has this class.
        registry: provides model sources and operators; by default all installed plugins.

    Returns:
        The model in eval mode on the CPU, (N, C, H, W) float32 -> (N, num_classes) logits.

    Raises:
        MbcompressError: `path` is not a run or pass directory, a file was modified, or files are inconsistent.
    """
    from mbcompress.checkpoint import rebuild
    from mbcompress.checkpoint.operators import operator_sets

    directory = open_pass(path)
    architecture = directory.architecture()
    shape = architecture.input_shape
    if architecture.form == "none":
        raise MbcompressError(f"{directory.path}: holds no model that can be loaded: {architecture.reason}")
    if model is not None:
        if architecture.layers is None:
            raise MbcompressError(
                f"{directory.path}: is no longer a {type(model).__name__} but a graph; leave out model="
            )
        state = {name: tensor for name, tensor in _state(directory).items() if name not in architecture.constants}
        return rebuild.from_module(model, architecture.layers, architecture.bypassed, state, directory.path / STATE)
    if architecture.form == "graph":
        operators = operator_sets(registry or discover())
        document, place = directory.read_json(GRAPH), directory.path / GRAPH
        return rebuild.from_graph(document, _state(directory), shape, place, operators)
    if architecture.form == "source":
        source = _source(architecture, directory.path / ARCHITECTURE, registry or discover())
        layers, identities = architecture.layers or {}, architecture.bypassed
        return rebuild.from_source(source, layers, identities, _state(directory), shape, directory.path / STATE)
    raise MbcompressError(
        f"{directory.path}: needs the module that was compressed, as in load(path, model=MyNet()): "
        f"{architecture.reason}"
    )


def _state(directory: PassDirectory) -> dict[str, Tensor]:
    from safetensors.torch import load as parse

    content = directory.read(STATE, LARGEST_STATE)
    try:
        return parse(content)
    except Exception as error:  # SafetensorError, or PyTorch's errors for impossible shapes
        problem = brief(first_line(error))
        raise MbcompressError(f"{directory.path / STATE}: is not a readable safetensors file: {problem}") from None


def _source(architecture: Architecture, place: Path, registry: Registry) -> ModelSource:
    """Build the stored model source, if its options determine the architecture."""
    options = {key: value for key, value in (architecture.source or {}).items() if key != "weights"}
    name = options.get("source")
    cls = registry.models.classes.get(name) if isinstance(name, str) else None
    if cls is None:
        raise MbcompressError(f"{place}: {unknown('model source', name, registry.models.classes)}")
    if not cls.rebuildable:  # checked before the options, which could name code
        raise MbcompressError(f"{place}: model source {name!r} cannot be rebuilt from its options")
    try:
        return registry.build_model(options)
    except SpecError as error:
        raise MbcompressError(f"{place}: source: {error}") from None
