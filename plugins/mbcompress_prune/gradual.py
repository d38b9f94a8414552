"""Gradual channel pruning: more and more channels go to zero while the model trains, and are then removed."""

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
"""How often the channels are chosen again."""


class GradualChannelPruning(KeepZeros):
    """Sets the least important channels to zero, more and more by a cubic schedule (Zhu and Gupta 2017).

    Args:
        choose: (model, share of the way to the target, up to 1) -> slices to set to zero.
        ramp: share of the training in which the number of zero channels rises.
        sparse: whether single weights that are zero at the start stay zero too.
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
        """No channels are chosen yet."""
        self.updates, self.slices = 0, []
        if self.sparse:
            super().on_train_start(model, state)

    def state_dict(self) -> dict[str, Any]:
        """Return which channels are zero, and how often they were chosen."""
        return {"updates": self.updates, "slices": self.slices}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with those channels."""
        self.updates = state["updates"]
        self.slices = [ChannelSlice(layer, outputs, tuple(indices)) for layer, outputs, indices in state["slices"]]

    def on_train_batch_end(self, model: nn.Module, state: TrainerState) -> None:
        """Choose channels again where it is time to, and set them to zero."""
        due = min(UPDATES, int(UPDATES * state.progress / self.ramp))
        if due > self.updates:
            self.apply_masks(model)
            self.slices = self.choose(model, cubic_sparsity(1.0, due, UPDATES))
            self.updates = due
        self.apply_masks(model)

    def ratios(self, model: nn.Module) -> PruningRatios:
        """Return the share of zero channels of each layer, as a pruning ratio that removes exactly those."""
        gone = {
            each.layer: len(each.indices)
            for each in self.slices
            if each.outputs and isinstance(model.get_submodule(each.layer), PRUNABLE)
        }
        # half a channel less: what is left of a product is rounded down
        return {name: (count - 0.5) / len(model.get_parameter(f"{name}.weight")) for name, count in gone.items()}

    @torch.no_grad()
    def apply_masks(self, model: nn.Module) -> None:
        """Set the slices chosen so far to zero."""
        super().apply_masks(model)
        for layer, outputs, indices in self.slices:
            weight = model.get_parameter(f"{layer}.weight")
            places = torch.tensor(indices, dtype=torch.long, device=weight.device)
            takes = not outputs and weight.dim() > 1 and weight.shape[1] > 1  # a norm and a depthwise kernel do not
            weight.index_fill_(1 if takes else 0, places, 0)
            bias = getattr(model.get_submodule(layer), "bias", None)
            if bias is not None and not takes:
                bias.index_fill_(0, places, 0)
