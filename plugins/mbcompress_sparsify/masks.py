"""Select the smallest weights of each layer, of the whole model or of N:M groups, and prune them during training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mbcompress.training import KeepZeros, cubic_sparsity, zero_masks

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mbcompress.training import TrainerState

STAYS = float("inf")
"""Score of a weight that must be kept."""


class Selection(NamedTuple):
    """How the weights to prune are selected.

    Attributes:
        scope: per layer, or over all layers together.
        kept: the N of N:M; None without a pattern.
        group: the M of N:M; None without a pattern.
    """

    scope: Literal["layer", "global"] = "layer"
    kept: int | None = None
    group: int | None = None

    def zeros(self, weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
        """Return bool tensors, True for the smallest `sparsity` of the weights in the scope.

        Without a pattern the largest weight of each layer is always kept, so no layer becomes all zero. With a pattern,
        at least N of M weights are kept.

        Args:
            weights: (O, I, kH, kW) of convolutions, (O, I) of linear layers.
        """
        scores = [self._scores(weight) for weight in weights.values()]
        if self.scope == "global":
            gone = torch.split(_smallest(torch.cat(scores), sparsity), [len(score) for score in scores])
        else:
            gone = tuple(_smallest(score, sparsity) for score in scores)
        return {name: each.view(weights[name].shape) for name, each in zip(weights, gone, strict=True)}

    def _scores(self, weight: Tensor) -> Tensor:
        """(weights,) magnitudes; `STAYS` for weights that must be kept."""
        sizes = weight.detach().abs()
        if self.kept is None or self.group is None:
            scores = sizes.flatten().clone()
            scores[scores.argmax()] = STAYS
            return scores
        last = sizes.movedim(1, -1)  # (O, kH, kW, I): groups along the input channels
        groups = last.reshape(-1, self.group)
        largest = groups.argsort(dim=1, descending=True, stable=True)[:, : self.kept]
        return groups.scatter(1, largest, STAYS).view(last.shape).movedim(-1, 1).flatten()


def _smallest(scores: Tensor, share: float) -> Tensor:
    """(n,) bool: the smallest round(share * n) finite scores, the first ones among equals."""
    count = min(round(share * len(scores)), int(scores.isfinite().sum()))
    gone = torch.zeros_like(scores, dtype=torch.bool)
    gone[scores.argsort(stable=True)[:count]] = True
    return gone


@torch.no_grad()
def set_zeros(model: nn.Module, names: Sequence[str], selection: Selection, sparsity: float) -> None:
    """Set the smallest weights to zero in place; weights that are already zero count."""
    weights = {name: model.get_parameter(name) for name in names}
    for name, gone in selection.zeros(weights, sparsity).items():
        weights[name].masked_fill_(gone, 0)


class GradualZeros(KeepZeros):
    """Increases the sparsity to a target on the cubic schedule of Zhu and Gupta 2017, and keeps the zeros.

    Zero weights stay zero. The masks are computed from the weights after each step, so checkpoints need not store them.

    Args:
        names: weights to prune.
        kept: weights whose zeros are kept, including `names`.
        ramp: fraction of the steps during which the sparsity increases.
        interval: steps between increases.
    """

    target_reached = False

    def __init__(
        self,
        names: Sequence[str],
        kept: Collection[str],
        selection: Selection,
        sparsity: float,
        ramp: float,
        interval: int,
    ) -> None:
        super().__init__()
        self.names = names
        self.kept = frozenset(kept)
        self.selection = selection
        self.sparsity = sparsity
        self.ramp = ramp
        self.interval = interval

    def on_train_start(self, model: nn.Module, state: TrainerState) -> None:
        self._update_masks(model)
        self.target_reached = self._is_sparse(model)

    def on_train_batch_end(self, model: nn.Module, state: TrainerState) -> None:
        self.apply_masks(model)
        step, last = state.global_step, max(1, round(self.ramp * state.max_steps))
        if step == last or (step < last and step % self.interval == 0):
            set_zeros(model, self.names, self.selection, cubic_sparsity(self.sparsity, step, last))
            self.target_reached = self._is_sparse(model)
        self._update_masks(model)

    def _update_masks(self, model: nn.Module) -> None:
        self.masks = {name: mask for name, mask in zero_masks(model).items() if name in self.kept}

    def _is_sparse(self, model: nn.Module) -> bool:
        """Whether the target sparsity is reached."""
        weights = {name: model.get_parameter(name).detach() for name in self.names}
        zeros = self.selection.zeros(weights, self.sparsity)
        return not any(bool((weights[name][mask] != 0).any()) for name, mask in zeros.items())
