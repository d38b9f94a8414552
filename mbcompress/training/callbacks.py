"""Callbacks: what happens around the optimizer steps of a training, by Lightning's event names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class TrainerState:
    """How far a training is.

    Attributes:
        epoch: the epoch at work, from 1.
        global_step: optimizer steps done, over all epochs.
        max_steps: optimizer steps of the whole training.
    """

    epoch: int
    global_step: int
    max_steps: int

    @property
    def progress(self) -> float:
        """Share of the optimizer steps that is done, 0 to 1."""
        return self.global_step / self.max_steps


class Callback:
    """What a pass does around the steps of a training; override the events you need.

    Attributes:
        target_reached: whether the model has what the callback aims at, such as a sparsity. The weights of an epoch can
            be kept as the best ones only then.
    """

    target_reached: bool = True

    def on_train_start(self, model: nn.Module, state: TrainerState) -> None:
        """The training starts, or resumes from a checkpoint; in that case `load_state_dict` follows."""

    def on_before_optimizer_step(self, model: nn.Module, state: TrainerState) -> None:
        """The gradients of the batch are there, and not yet clipped."""

    def on_train_batch_end(self, model: nn.Module, state: TrainerState) -> None:
        """The optimizer has made a step."""

    def on_validation_start(self, model: nn.Module, state: TrainerState) -> None:
        """`model` is about to be validated, and may be kept: the trained one, or the moving average of its weights."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold beside the weights: tensors, and anything that JSON can hold, by name."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class KeepZeros(Callback):
    """Weights that are zero when the training starts stay zero, so that a sparse model stays sparse."""

    def __init__(self) -> None:
        self.masks: dict[str, Tensor] = {}

    def on_train_start(self, model: nn.Module, state: TrainerState) -> None:
        """Remember the zeros."""
        self.masks = zero_masks(model)

    def on_train_batch_end(self, model: nn.Module, state: TrainerState) -> None:
        """Set them to zero again."""
        self.apply_masks(model)

    def on_validation_start(self, model: nn.Module, state: TrainerState) -> None:
        """Set them to zero in a moving average too."""
        self.apply_masks(model)

    @torch.no_grad()
    def apply_masks(self, model: nn.Module) -> None:
        """Multiply the weights by their masks, in place."""
        for name, mask in self.masks.items():
            model.get_parameter(name).mul_(mask).add_(0.0)  # -0.0 becomes 0.0: files compress better


def zero_masks(model: nn.Module) -> dict[str, Tensor]:
    """Return a mask of 0 and 1 for each weight that has zeros; a weight that is zero throughout was not pruned."""
    return {
        name: mask.to(parameter.dtype)
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and 0 < int((mask := parameter.detach() != 0).sum()) < mask.numel()
    }


def cubic_sparsity(target: float, step: int, last: int) -> float:
    """Return the sparsity at `step`, rising from 0 to `target` at step `last`: equation 1 of Zhu and Gupta 2017."""
    return target * (1 - (1 - min(step, last) / last) ** 3)
