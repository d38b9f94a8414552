"""Channels that fade while a network trains: more and more of them are zero, until those that go can go unnoticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mbcompress.training import Constraint

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from .channels import Slice

UPDATES = 20
"""How often the choice of channels is made anew on the way."""


class Fading(Constraint):
    """Zeroes the least important channels, more of them by a cubic schedule (Zhu and Gupta 2017).

    What is zero stays zero. All of it can be read from the weights: a training that was interrupted goes on alike.

    Args:
        choose: model, share of the way to go -> what to zero.
        ramp: share of the training during which channels fade.
    """

    def __init__(self, choose: Callable[[nn.Module, float], list[Slice]], ramp: float) -> None:
        self.choose = choose
        self.ramp = ramp
        self.updates = 0
        self.slices: list[Slice] = []

    @property
    def settled(self) -> bool:  # type: ignore[override]
        """Whether as many channels are zero as shall go."""
        return self.updates >= UPDATES

    def begin(self, model: nn.Module) -> None:
        """Find the slices that are zero already."""
        self.updates, self.slices = 0, []

    def after_step(self, model: nn.Module, done: float) -> None:
        """Choose anew where it is time to, and zero."""
        due = min(UPDATES, int(UPDATES * done / self.ramp))
        if due > self.updates:
            self.hold(model)
            self.slices = self.choose(model, 1 - (1 - due / UPDATES) ** 3)
            self.updates = due
        self.hold(model)

    @torch.no_grad()
    def hold(self, model: nn.Module) -> None:
        """Zero the slices chosen so far."""
        for layer, outputs, indices in self.slices:
            weight = model.get_parameter(f"{layer}.weight")
            places = torch.tensor(indices, dtype=torch.long, device=weight.device)
            takes = not outputs and weight.dim() > 1 and weight.shape[1] > 1  # a norm and a depthwise kernel do not
            weight.index_fill_(1 if takes else 0, places, 0)
            bias = getattr(model.get_submodule(layer), "bias", None)
            if bias is not None and not takes:
                bias.index_fill_(0, places, 0)
