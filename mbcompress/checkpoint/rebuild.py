"""Rebuild a stored model from a source's options, a graph, or the caller's module."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mbcompress.checkpoint.architecture import Sizes, resize_layers, set_identities
from mbcompress.checkpoint.graph import GraphNetwork
from mbcompress.contract.weights import COUNTER, check_fit
from mbcompress.errors import MbcompressError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mbcompress.checkpoint.operators import Operators
    from mbcompress.contract.models import ModelSource

Shape = tuple[int, int, int]

MAX_ELEMENTS = 2**30
"""Maximum number of elements of a tensor, for two images: 4 GiB in float32."""

MAX_PIECES = 4096
"""Maximum number of outputs of `split` and `chunk`."""


def from_source(
    source: ModelSource,
    layers: Sizes,
    identities: Iterable[str],
    state: Mapping[str, Tensor],
    shape: Shape,
    place: Path,
) -> nn.Module:
    """Build the model of `source`, resize its layers and load `state`; `source.weights` is not read.

    The model is first built and run on the meta device, so that mismatches are found before memory is allocated, and no
    random numbers are drawn.

    Args:
        source: a source whose class is `rebuildable`.
        layers: the result of `architecture.layer_sizes`.
        identities: the result of `architecture.identities`.
        state: the state dict.
        shape: channels, height, width of the input.
        place: the file, for error messages.

    Raises:
        MbcompressError: the sizes or the weights do not fit the model.
    """
    if "weights" in type(source).model_fields:
        source = source.model_copy(update={"weights": None})
    with torch.device("meta"):
        model = source.load()
    expected = f"{source.name} with these layer sizes"
    _resize(model, layers, identities, place, expected)
    check_fit(state, model.state_dict(), place, expected)
    _check_runs(model, shape, place)
    _assign(model, state, place)
    return model.eval()


def from_module(
    template: nn.Module, layers: Sizes, identities: Iterable[str], state: Mapping[str, Tensor], place: Path
) -> nn.Module:
    """Copy `template`, resize its layers and load `state`; arguments and errors as in `from_source`."""
    model = copy.deepcopy(template).cpu()
    expected = f"the {type(template).__name__} in model="
    _resize(model, layers, identities, place, expected)
    check_fit(state, model.state_dict(), place, expected)
    _assign(model, state, place)
    return model.eval()


def from_graph(
    document: object, state: Mapping[str, Tensor], shape: Shape, place: Path, operators: Operators
) -> nn.Module:
    """Build the model of a stored graph with the tensors of `state`; arguments and errors as in `from_source`."""
    if not isinstance(document, dict):
        raise MbcompressError(f"{place}: must hold a mapping")
    try:
        empty = GraphNetwork(document, {name: tensor.to("meta") for name, tensor in state.items()}, operators)
    except MbcompressError as error:
        raise MbcompressError(f"{place}: {error}") from None
    except RecursionError:
        raise MbcompressError(f"{place}: nests its arguments too deeply") from None
    _check_runs(empty, shape, place)
    return GraphNetwork(document, state, operators).eval()


def _resize(model: nn.Module, layers: Sizes, identities: Iterable[str], place: Path, expected: str) -> None:
    try:
        set_identities(model, identities)
        resize_layers(model, layers)
    except MbcompressError as error:
        raise MbcompressError(f"{place}: does not fit {expected}: {error}") from None


def _check_runs(model: nn.Module, shape: Shape, place: Path) -> None:
    """Run a forward pass on the meta device."""
    try:
        with torch.no_grad(), Bounded():  # type: ignore[no-untyped-call]  # torch's own __init__
            logits = model(torch.empty(2, *shape, device="meta"))
        outputs = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    except Exception as error:  # torch operators raise many exception classes for invalid arguments
        raise MbcompressError(f"{place}: describes a model that cannot run: {first_line(error)}") from None
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != 2:
        raise MbcompressError(f"{place}: describes a model that returns {outputs} for two images, not logits (2, K)")


def _assign(model: nn.Module, state: Mapping[str, Tensor], place: Path) -> None:
    """Load the tensors of `state` into the model; dtypes must be equal."""
    own = model.state_dict()
    counters = {name: torch.zeros(()).long() for name in own if name not in state and name.endswith(COUNTER)}
    other = [name for name, tensor in state.items() if tensor.dtype != own[name].dtype]
    if other:
        name = other[0]
        raise MbcompressError(f"{place}: {name} is {state[name].dtype} in the file and {own[name].dtype} in the model")
    model.load_state_dict({**state, **counters}, assign=True)
    lacking = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
    if lacking:
        raise MbcompressError(f"{place}: has no values for {', '.join(lacking[:3])}")


class Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as is all of torch's module
    """Raises MbcompressError if a result of an operator exceeds `MAX_ELEMENTS` or `MAX_PIECES`."""

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.split.Tensor:
            _check_pieces(*args)
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.numel() > MAX_ELEMENTS:
            shape = "x".join(map(str, result.shape))
            raise MbcompressError(f"{func} returns {shape} for two images, more than {MAX_ELEMENTS:,} elements")
        return result


def _check_pieces(tensor: Tensor, size: int, dim: int = 0) -> None:
    pieces = tensor.shape[dim] // max(size, 1)
    if pieces > MAX_PIECES:
        raise MbcompressError(f"splits a tensor into {pieces} pieces, more than {MAX_PIECES}")
