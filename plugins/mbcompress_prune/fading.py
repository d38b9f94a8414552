"""Channels that fade while a network trains: more and more of them are zero, until those that go can go unnoticed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mbcompress.training import KeepZeros, cubic_sparsity

from .channels import PRUNABLE, Slice

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from mbcompress.training import TrainerState

    from .channels import Ratios

UPDATES = 20
"""How often the choice of channels is made anew on the way."""


class Fading(KeepZeros):
    """Zeroes the least important channels, more of them by a cubic schedule (Zhu and Gupta 2017).

    What is zero stays zero.

    Args:
        choose: model, share of the way to go, which ends with 1 -> what to zero.
        ramp: share of the training during which channels fade.
        sparse: whether single weights that are zero at the beginning stay so too.
    """

    def __init__(self, choose: Callable[[nn.Module, float], list[Slice]], ramp: float, *, sparse: bool) -> None:
        super().__init__()
        self.choose = choose
        self.ramp = ramp
        self.sparse = sparse
        self.updates = 0
        self.slices: list[Slice] = []

    @property
    def target_reached(self) -> bool:  # type: ignore[override]
        """Whether all channels that will be removed are zero."""
        return self.updates >= UPDATES

    def on_train_start(self, model: nn.Module, state: TrainerState) -> None:
        """Nothing has faded yet."""
        self.updates, self.slices = 0, []
        if self.sparse:
            super().on_train_start(model, state)

    def state_dict(self) -> dict[str, Any]:
        """Return which channels have faded, and how often they were chosen."""
        return {"updates": self.updates, "slices": self.slices}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with those."""
        self.updates = state["updates"]
        self.slices = [Slice(layer, outputs, tuple(indices)) for layer, outputs, indices in state["slices"]]

    def on_train_batch_end(self, model: nn.Module, state: TrainerState) -> None:
        """Choose channels again where it is time to, and set them to zero."""
        due = min(UPDATES, int(UPDATES * state.progress / self.ramp))
        if due > self.updates:
            self.apply_masks(model)
            self.slices = self.choose(model, cubic_sparsity(1.0, due, UPDATES))
            self.updates = due
        self.apply_masks(model)

    def ratios(self, model: nn.Module) -> Ratios:
        """For each layer the share of its channels that is zero, such that pruning takes as many, and those first."""
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
