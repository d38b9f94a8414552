"""Channel pruning with torch-pruning on copies of a model, and detection of layers that it cannot prune.

torch-pruning does not follow all uses of channels (a hard-coded shape, a split, a parameter used directly in
`forward`). Groups of layers that fail are found by trial and not pruned.
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
LARGEST_MAPPING = 4_000_000  # channel indices in one trace; VGG's 7x7 flatten needs 1 % of it
PRUNABLE = (nn.Conv2d, nn.Linear)
SLICED = (*PRUNABLE, nn.BatchNorm2d)


PruningRatios = Mapping[str, float]
"""Name of a layer -> ratio of its channels to prune; other layers keep all channels."""
PruningRatio = float | PruningRatios
"""Ratio of channels to prune, for all layers or by layer name."""


@dataclass(frozen=True)
class ChannelPruner:
    """Chooses and removes channels; the attributes are options of the pass `prune`.

    Attributes:
        gradients: gradients of the loss by parameter name, for the criterion 'taylor'.
    """

    criterion: str
    scope: str
    round_to: int
    seed: int
    gradients: Mapping[str, Tensor] | None = None

    def prune(
        self, model: nn.Module, example: Tensor, ratio: PruningRatio, ignored_layers: Collection[str]
    ) -> nn.Module:
        """Return a copy of `model` with `ratio` of its channels removed; groups with an ignored layer keep all."""
        model = copy.deepcopy(model).eval()
        frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
        for _, group in self._groups(model, example, ratio, ignored_layers):
            group.prune()
        for parameter in model.parameters():
            parameter.grad = None
        for name in frozen:
            model.get_parameter(name).requires_grad_(False)
        return model

    def choose(
        self, model: nn.Module, example: Tensor, ratio: PruningRatio, ignored_layers: Collection[str]
    ) -> list[ChannelSlice]:
        """Return the slices of layers that `prune` would remove."""
        model = copy.deepcopy(model).eval()
        names = {module: name for name, module in model.named_modules()}
        chosen = []
        for graph, group in self._groups(model, example, ratio, ignored_layers):
            for dependency, indices in group:
                if isinstance(dependency.target.module, SLICED):
                    outputs = graph.is_out_channel_pruning_fn(dependency.handler)
                    chosen.append(ChannelSlice(names[dependency.target.module], outputs, tuple(indices)))
        return chosen

    def _groups(
        self, model: nn.Module, example: Tensor, ratio: PruningRatio, ignored_layers: Collection[str]
    ) -> Iterator[tuple[Any, Any]]:
        """Yield the dependency graph and each group of channels to prune; `model` is changed."""
        model.requires_grad_(True)  # torch-pruning traces the autograd graph
        for name, gradient in (self.gradients or {}).items():
            model.get_parameter(name).grad = gradient.clone()
        torch.manual_seed(self.seed)  # so that the random criterion ranks channels equally for every ratio
        single = {} if isinstance(ratio, float) else {model.get_submodule(name): each for name, each in ratio.items()}
        with _tracing():
            ignored = [model.get_submodule(name) for name in ignored_layers]
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


class ChannelSlice(NamedTuple):
    """Indices of output or input channels of a layer."""

    layer: str
    outputs: bool
    indices: tuple[int, ...]


def loss_gradients(model: nn.Module, context: Context, images: int) -> dict[str, Tensor]:
    """Return the gradients of the cross-entropy on the first `images` training images in eval mode, by parameter."""
    model = copy.deepcopy(model).eval().requires_grad_(True)
    data = context.data
    for batch, labels in evaluation_batches(data.train.take(np.arange(images)), data.normalization, context.device):
        cross_entropy(model(batch), labels).backward()  # type: ignore[no-untyped-call]
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


@contextmanager
def _tracing() -> Iterator[None]:
    """Enable gradients, and limit the index mappings of torch-pruning, which could run out of memory.

    With repeated reshapes, as in attention, its lists of channel indices grow with each reshape.
    """
    left, plain = LARGEST_MAPPING, _FlattenIndexMapping.__call__

    def bounded(mapping: Any, indices: Any) -> Any:
        nonlocal left
        left -= len(indices) if mapping.reverse else len(indices) * mapping._stride
        if left < 0:
            raise RecursionError("its reshapes couple more channels than torch-pruning can track")
        return plain(mapping, indices)

    _FlattenIndexMapping.__call__ = bounded
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Unwrapped parameters detected")
            yield
    finally:
        _FlattenIndexMapping.__call__ = plain


class _Pruner(tp.pruner.BasePruner):  # type: ignore[misc]  # torch-pruning is not typed
    """Keeps at least `round_to` channels per layer; the library would round to zero and then keep all channels."""

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
    """Return the layer that computes the logits (the last one called), whose outputs must be kept."""
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
    """Return the names of weights that belong to no layer and are used directly in `forward`."""
    layers = (nn.modules.conv._ConvNd, nn.Linear)
    owned = {id(p) for m in model.modules() if isinstance(m, layers) for p in m.parameters(recurse=False)}
    return [
        name
        for name, parameter in model.named_parameters()
        if id(parameter) not in owned and sum(size > 1 for size in parameter.shape) > 1
    ]


def unprunable_layers(model: nn.Module, example: Tensor, pruner: ChannelPruner, output: list[str]) -> dict[str, str]:
    """Return the layers whose channels cannot be pruned -> the reason.

    Raises:
        MbcompressError: the model cannot be traced, or fails for a reason not due to a single group.
    """
    reasons = dict.fromkeys(functional_weights(model), "a weight used directly in forward")
    problem = _problem(model, example, pruner, output)
    if problem is not None:
        groups = find_groups(model, example, output)
        for root, members in groups.items():
            others = [each for each in groups if each != root]
            if found := _problem(model, example, pruner, [*output, *others]):
                reasons |= dict.fromkeys(members, f"without some of its channels the model fails: {found}")
        if remaining := _problem(model, example, pruner, [*output, *(r for r in reasons if r in groups)]):
            raise MbcompressError(f"prune: channels of this model cannot be removed ({remaining})")
    return reasons


def unpruned_layers(before: nn.Module, after: nn.Module, round_to: int) -> list[str]:
    """Return the layers with more than `round_to` channels, of which none was pruned."""
    pruned = dict(after.named_modules())
    return [
        name
        for name, module in before.named_modules()
        if isinstance(module, PRUNABLE) and module.weight.shape[0] == pruned[name].weight.shape[0] > round_to
    ]


def _problem(model: nn.Module, example: Tensor, pruner: ChannelPruner, ignored_layers: Collection[str]) -> str | None:
    """Return the error after pruning as much as possible, None if there is none."""
    images = example.repeat(2, 1, 1, 1)
    try:
        pruned = pruner.prune(model, example, LARGEST_RATIO, ignored_layers)
        with torch.no_grad():
            before, after = model(images).shape, pruned(images).shape
    except Exception as error:  # from torch-pruning or the model
        return f"{type(error).__name__}: {brief(str(error))}"
    return None if before == after else f"{before[-1]} outputs became {after[-1]}"


def find_groups(model: nn.Module, example: Tensor, output: Collection[str]) -> dict[str, list[str]]:
    """Return the groups of layers with coupled channels in torch-pruning's order: first layer -> all layers.

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
