"""Gradual channel pruning: set channels to zero step by step during training, then remove them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mbcompress.training import KeepZeros, cubic_sparsity

from .channels import PRUNABLE, ChannelSlice

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from mbcompress.training import TrainerState

    from .channels import PruningRatios

UPDATES = 20
"""Number of times the channels to prune are chosen."""


class GradualChannelPruning(KeepZeros):
    """Sets the least important channels to zero on a cubic schedule (Zhu and Gupta 2017).

    Args:
        choose: (model, fraction of the target, up to 1) -> slices to set to zero.
        ramp: fraction of the training during which the number of zero channels increases.
        sparse: whether individual weights that are zero at the start also stay zero.
    """

    def __init__(self, choose: Callable[[nn.Module, float], list[ChannelSlice]], ramp: float, *, sparse: bool) -> None:
        super().__init__()
        self.choose = choose
        self.ramp = ramp
        self.sparse = sparse
        self.updates = 0
        self.slices: list[ChannelSlice] = []

    @property
    def target_reached(self) -> bool:  # type: ignore[override]
        """Whether all channels that will be removed are zero."""
        return self.updates >= UPDATES

    def on_train_start(self, model: nn.Module, state: TrainerState) -> None:
        """Start without zero channels."""
        self.updates, self.slices = 0, []
        if self.sparse:
            super().on_train_start(model, state)

    def state_dict(self) -> dict[str, Any]:
        """Return the zero channels and the number of updates."""
        return {"updates": self.updates, "slices": self.slices}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the zero channels and the number of updates."""
        self.updates = state["updates"]
        self.slices = [ChannelSlice(layer, outputs, tuple(indices)) for layer, outputs, indices in state["slices"]]

    def on_train_batch_end(self, model: nn.Module, state: TrainerState) -> None:
        """Choose channels if an update is due, and set them to zero."""
        due = min(UPDATES, int(UPDATES * state.progress / self.ramp))
        if due > self.updates:
            self.apply_masks(model)
            self.slices = self.choose(model, cubic_sparsity(1.0, due, UPDATES))
            self.updates = due
        self.apply_masks(model)

    def ratios(self, model: nn.Module) -> PruningRatios:
        """Return the pruning ratio of each layer that removes exactly its zero channels."""
        gone = {
            each.layer: len(each.indices)
            for each in self.slices
            if each.outputs and isinstance(model.get_submodule(each.layer), PRUNABLE)
        }
        # half a channel less, because torch-pruning rounds the number of remaining channels down
        return {name: (count - 0.5) / len(model.get_parameter(f"{name}.weight")) for name, count in gone.items()}

    @torch.no_grad()
    def apply_masks(self, model: nn.Module) -> None:
        """Set the slices chosen so far to zero."""
        super().apply_masks(model)
        for layer, outputs, indices in self.slices:
            weight = model.get_parameter(f"{layer}.weight")
            places = torch.tensor(indices, dtype=torch.long, device=weight.device)
            takes = not outputs and weight.dim() > 1 and weight.shape[1] > 1  # not norms and depthwise kernels
            weight.index_fill_(1 if takes else 0, places, 0)
            bias = getattr(model.get_submodule(layer), "bias", None)
            if bias is not None and not takes:
                bias.index_fill_(0, places, 0)
