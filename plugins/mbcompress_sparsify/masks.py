"""Which weights go: the smallest, in a layer, in the whole model or in groups; and when, while training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mbcompress.training import KeepZeros, cubic_sparsity, zero_masks

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mbcompress.training import TrainerState

STAYS = float("inf")
"""Score of a weight that must not go."""


class Selection(NamedTuple):
    """Among what weights the smallest are looked for.

    Attributes:
        scope: each layer by itself, or all of them together.
        kept: the N of N:M, None without a pattern.
        group: the M of N:M.
    """

    scope: Literal["layer", "global"] = "layer"
    kept: int | None = None
    group: int | None = None

    def zeros(self, weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
        """Bool tensors, True where a weight is among the smallest `sparsity` of its scope; zeros come first of all.

        Without a pattern the largest weight of each layer stays, whatever the sparsity: a layer of nothing but zeros is
        no layer. With one, no more go than the pattern lets go.

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
        """(weights,) magnitudes, `STAYS` for those that must not go."""
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
    """(n,) bool: the smallest round(share * n), of equal ones the first; none that must stay."""
    count = min(round(share * len(scores)), int(scores.isfinite().sum()))
    gone = torch.zeros_like(scores, dtype=torch.bool)
    gone[scores.argsort(stable=True)[:count]] = True
    return gone


@torch.no_grad()
def set_zeros(model: nn.Module, names: Sequence[str], selection: Selection, sparsity: float) -> None:
    """Set the smallest weights to zero, in place; what is zero already counts among them."""
    weights = {name: model.get_parameter(name) for name in names}
    for name, gone in selection.zeros(weights, sparsity).items():
        weights[name].masked_fill_(gone, 0)


class GradualZeros(KeepZeros):
    """Zeros that grow to a target by the cubic schedule of Zhu and Gupta 2017, and then stay.

    What is zero stays zero: after each step the masks are read off the weights, so that a checkpoint needs nothing
    else.

    Args:
        names: weights that become sparse.
        kept: weights whose zeros stay, `names` among them.
        ramp: share of the steps in which the sparsity rises.
        interval: steps between two rises.
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
        """Whether the target sparsity would set no more weights to zero."""
        weights = {name: model.get_parameter(name).detach() for name in self.names}
        zeros = self.selection.zeros(weights, self.sparsity)
        return not any(bool((weights[name][mask] != 0).any()) for name, mask in zeros.items())
