"""Channels go, with everything that depends on them: torch-pruning on copies of a model, and what it cannot do.

A stranger's model may mix channels in ways that torch-pruning does not see through (a shape written as a number, a
split, a weight that `forward` uses by itself). So every group of layers that fails alone is found by trial and left as
it is.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch_pruning.dependency.index_mapping import _FlattenIndexMapping

from mbcompress import MbcompressError
from mbcompress.errors import brief
from mbcompress.training import evaluation_batches

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mbcompress import Context

LARGEST_RATIO = 0.95
LARGEST_MAPPING = 4_000_000  # indices of channels in one tracing: VGG's 7x7 flattening takes a hundredth of it
PRUNABLE = (nn.Conv2d, nn.Linear)
SLICED = (*PRUNABLE, nn.BatchNorm2d)


Ratios = Mapping[str, float]
"""Name of a layer -> share of its channels that goes; a layer that is not named keeps all."""
Amount = float | Ratios
"""Share of the channels that goes, of all layers together or of each."""


@dataclass(frozen=True)
class Shrinking:
    """How a model loses channels; see the options of the pass of the same names.

    Attributes:
        gradients: of the loss, by parameter; for the criterion 'taylor'.
    """

    criterion: str
    scope: str
    round_to: int
    seed: int
    gradients: Mapping[str, Tensor] | None = None

    def prune(self, model: nn.Module, example: Tensor, ratio: Amount, kept: Collection[str]) -> nn.Module:
        """A copy of `model` that has lost `ratio` of its channels, but none of the groups that a `kept` layer is in."""
        model = copy.deepcopy(model).eval()
        frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
        for _, group in self._groups(model, example, ratio, kept):
            group.prune()
        for parameter in model.parameters():
            parameter.grad = None
        for name in frozen:
            model.get_parameter(name).requires_grad_(False)
        return model

    def choose(self, model: nn.Module, example: Tensor, ratio: Amount, kept: Collection[str]) -> list[Slice]:
        """Which slices of which layers `prune` would remove."""
        model = copy.deepcopy(model).eval()
        names = {module: name for name, module in model.named_modules()}
        chosen = []
        for graph, group in self._groups(model, example, ratio, kept):
            for dependency, indices in group:
                if isinstance(dependency.target.module, SLICED):
                    outputs = graph.is_out_channel_pruning_fn(dependency.handler)
                    chosen.append(Slice(names[dependency.target.module], outputs, tuple(indices)))
        return chosen

    def _groups(
        self, model: nn.Module, example: Tensor, ratio: Amount, kept: Collection[str]
    ) -> Iterator[tuple[Any, Any]]:
        """The groups of channels that go, with their graph; `model` must not be of use to anybody else."""
        model.requires_grad_(True)  # dependencies are read from the gradient's graph
        for name, gradient in (self.gradients or {}).items():
            model.get_parameter(name).grad = gradient.clone()
        torch.manual_seed(self.seed)  # the random criterion draws the same order for every ratio
        single = {} if isinstance(ratio, float) else {model.get_submodule(name): each for name, each in ratio.items()}
        with _tracing():
            ignored = [model.get_submodule(name) for name in kept]
            pruner = _Pruner(
                model,
                example,
                importance=_importance(self.criterion),
                pruning_ratio=ratio if isinstance(ratio, float) else 0.0,
                pruning_ratio_dict=single,
                max_pruning_ratio=LARGEST_RATIO,
                global_pruning=self.scope == "global" and not single,
                round_to=self.round_to,
                ignored_layers=[*ignored, *(model.get_parameter(name) for name in functional_weights(model))],
            )
            yield from ((pruner.DG, group) for group in pruner.step(interactive=True))


class Slice(NamedTuple):
    """Channels of a layer: of what it gives, or of what it takes."""

    layer: str
    outputs: bool
    indices: tuple[int, ...]


def loss_gradients(model: nn.Module, context: Context, images: int) -> dict[str, Tensor]:
    """Gradients of the cross-entropy on the first `images` training images, by parameter, in eval mode."""
    model = copy.deepcopy(model).eval().requires_grad_(True)
    data = context.data
    for batch, labels in evaluation_batches(data.train.take(np.arange(images)), data.normalization, context.device):
        cross_entropy(model(batch), labels).backward()  # type: ignore[no-untyped-call]
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


@contextmanager
def _tracing() -> Iterator[None]:
    """Gradients on, and an end to what torch-pruning would otherwise follow until memory is full.

    Where reshapes lead back and forth, as in attention, its lists of channels grow with every turn.
    """
    left, plain = LARGEST_MAPPING, _FlattenIndexMapping.__call__

    def bounded(mapping: Any, indices: Any) -> Any:
        nonlocal left
        left -= len(indices) if mapping.reverse else len(indices) * mapping._stride
        if left < 0:
            raise RecursionError("its reshapes tie more channels together than torch-pruning can follow")
        return plain(mapping, indices)

    _FlattenIndexMapping.__call__ = bounded
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Unwrapped parameters detected")
            yield
    finally:
        _FlattenIndexMapping.__call__ = plain


class _Pruner(tp.pruner.BasePruner):  # type: ignore[misc]  # torch-pruning is not typed
    """Leaves every layer one multiple of `round_to`: the library's rounding goes to zero, and then keeps all."""

    def _round_to(self, n_pruned: int, current_channels: int, round_to: int) -> int:
        left = max((current_channels - n_pruned) // round_to, 1) * round_to
        return max(current_channels - left, 0)


def _importance(criterion: str) -> Any:
    match criterion:
        case "l1" | "l2":
            return tp.importance.GroupMagnitudeImportance(p=int(criterion[1]))
        case "taylor":
            return tp.importance.GroupTaylorImportance()
        case "bn_scale":
            return tp.importance.BNScaleImportance()
        case _:
            return tp.importance.RandomImportance()


def output_layer(model: nn.Module, example: Tensor) -> list[str]:
    """The layer that makes the logits, the last to be called: its outputs are classes, not channels."""
    last: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: last.__setitem__(slice(None), [name]))
        for name, module in model.named_modules()
        if isinstance(module, PRUNABLE)
    ]
    with torch.no_grad():
        model(example)
    for hook in hooks:
        hook.remove()
    return last


def functional_weights(model: nn.Module) -> list[str]:
    """Kernels and matrices that belong to no layer: only `forward` knows what it does with them."""
    layers = (nn.modules.conv._ConvNd, nn.Linear)
    owned = {id(p) for m in model.modules() if isinstance(m, layers) for p in m.parameters(recurse=False)}
    return [
        name
        for name, parameter in model.named_parameters()
        if id(parameter) not in owned and sum(size > 1 for size in parameter.shape) > 1
    ]


def unprunable(model: nn.Module, example: Tensor, shrinking: Shrinking, output: list[str]) -> dict[str, str]:
    """Layers that must keep their channels, with the reason.

    Raises:
        MbcompressError: the model cannot be traced, or channels cannot go for a reason that no single layer has.
    """
    reasons = dict.fromkeys(functional_weights(model), "a weight that forward uses by itself")
    problem = _problem(model, example, shrinking, output)
    if problem is not None:
        groups = roots(model, example, output)
        for root, members in groups.items():
            others = [each for each in groups if each != root]
            if found := _problem(model, example, shrinking, [*output, *others]):
                reasons |= dict.fromkeys(members, f"without some of its channels the model fails: {found}")
        if remaining := _problem(model, example, shrinking, [*output, *(r for r in reasons if r in groups)]):
            raise MbcompressError(f"prune: channels of this model cannot be removed ({remaining})")
    return reasons


def untouched(before: nn.Module, after: nn.Module, round_to: int) -> list[str]:
    """Layers with more channels than `round_to` that have lost none."""
    pruned = dict(after.named_modules())
    return [
        name
        for name, module in before.named_modules()
        if isinstance(module, PRUNABLE) and module.weight.shape[0] == pruned[name].weight.shape[0] > round_to
    ]


def _problem(model: nn.Module, example: Tensor, shrinking: Shrinking, kept: Collection[str]) -> str | None:
    """What goes wrong when as much is pruned as can be."""
    images = example.repeat(2, 1, 1, 1)
    try:
        pruned = shrinking.prune(model, example, LARGEST_RATIO, kept)
        with torch.no_grad():
            before, after = model(images).shape, pruned(images).shape
    except Exception as error:  # torch-pruning and the model may raise anything
        return f"{type(error).__name__}: {brief(str(error))}"
    return None if before == after else f"{before[-1]} outputs became {after[-1]}"


def roots(model: nn.Module, example: Tensor, output: Collection[str]) -> dict[str, list[str]]:
    """Groups of layers that lose the same channels: the first layer's name -> all names, in torch-pruning's order.

    Raises:
        MbcompressError: torch-pruning cannot trace the model.
    """
    model = copy.deepcopy(model).eval().requires_grad_(True)
    names = {module: name for name, module in model.named_modules()}
    weights = [model.get_parameter(name) for name in functional_weights(model)]
    try:
        with _tracing():
            graph = tp.DependencyGraph().build_dependency(model, example, ignored_params=weights)
            groups = list(graph.get_all_groups(ignored_layers=[model.get_submodule(name) for name in output]))
    except Exception as error:
        raise MbcompressError(
            f"prune: torch-pruning cannot trace the model ({type(error).__name__}: {brief(str(error))})"
        ) from error
    found = {}
    for group in groups:
        targets = [dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)]
        members = [names[module] for module in targets if isinstance(module, PRUNABLE)]
        found[names[group[0].dep.target.module]] = list(dict.fromkeys(members))
    return found
