"""Builds the model of a step again, from data alone: a source's options, a stored graph, or the caller's module."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mbcompress.checkpoint.architecture import Sizes, bypass, resize
from mbcompress.checkpoint.bounds import Bounded
from mbcompress.checkpoint.graph import GraphNetwork
from mbcompress.checkpoint.weights import COUNTER, check_fit
from mbcompress.errors import MbcompressError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from mbcompress.contract.models import ModelSource

Shape = tuple[int, int, int]


def from_source(
    source: ModelSource,
    layers: Sizes,
    without: Iterable[str],
    state: Mapping[str, Tensor],
    shape: Shape,
    place: Path,
) -> nn.Module:
    """The network of `source`, its layers resized, with the weights of `state`; `source.weights` is not read.

    The network is built and run once on the meta device, where nothing has storage: what does not fit together is found
    before anything is allocated, and no random numbers are drawn.

    Args:
        source: of a class that is `rebuildable`.
        layers: what `architecture.describe` gave.
        without: what `architecture.bypassed` gave.
        state: the state dict.
        shape: channels, height, width of the input.
        place: what to name in an error.

    Raises:
        MbcompressError: the sizes or the weights are not those of the network.
    """
    if "weights" in type(source).model_fields:
        source = source.model_copy(update={"weights": None})
    with torch.device("meta"):
        model = source.load()
    expected = f"{source.name} with the described layers"
    _resize(model, layers, without, place, expected)
    check_fit(state, model.state_dict(), place, expected)
    _check_runs(model, shape, place)
    _assign(model, state, place)
    return model.eval()


def from_module(
    skeleton: nn.Module, layers: Sizes, without: Iterable[str], state: Mapping[str, Tensor], place: Path
) -> nn.Module:
    """A copy of `skeleton`, its layers resized, with the weights of `state`; arguments and errors as above."""
    model = copy.deepcopy(skeleton).cpu()
    expected = f"the {type(skeleton).__name__} that was given"
    _resize(model, layers, without, place, expected)
    check_fit(state, model.state_dict(), place, expected)
    _assign(model, state, place)
    return model.eval()


def from_graph(document: object, state: Mapping[str, Tensor], shape: Shape, place: Path) -> nn.Module:
    """The network that a stored graph describes, with the tensors of `state`; arguments and errors as above."""
    if not isinstance(document, dict):
        raise MbcompressError(f"{place}: must hold a mapping")
    try:
        empty = GraphNetwork(document, {name: tensor.to("meta") for name, tensor in state.items()})
    except MbcompressError as error:
        raise MbcompressError(f"{place}: {error}") from None
    except RecursionError:
        raise MbcompressError(f"{place}: nests its arguments too deeply") from None
    _check_runs(empty, shape, place)
    return GraphNetwork(document, state).eval()


def _resize(model: nn.Module, layers: Sizes, without: Iterable[str], place: Path, expected: str) -> None:
    try:
        bypass(model, without)
        resize(model, layers)
    except MbcompressError as error:
        raise MbcompressError(f"{place}: does not fit {expected}: {error}") from None


def _check_runs(model: nn.Module, shape: Shape, place: Path) -> None:
    """One forward pass without storage."""
    try:
        with torch.no_grad(), Bounded():  # type: ignore[no-untyped-call]  # torch's own __init__
            logits = model(torch.empty(2, *shape, device="meta"))
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    except Exception as error:  # torch's operators raise half a dozen classes for arguments that do not fit
        raise MbcompressError(f"{place}: describes a network that cannot run: {first_line(error)}") from None
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != 2:
        raise MbcompressError(f"{place}: describes a network that gives {found} for two images, not logits (2, K)")


def _assign(model: nn.Module, state: Mapping[str, Tensor], place: Path) -> None:
    """Make the tensors of `state` those of the model, in their own dtypes."""
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
