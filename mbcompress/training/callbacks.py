"""Callbacks around the optimizer steps of a training, with Lightning's hook names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class TrainerState:
    """Progress of a training.

    Attributes:
        epoch: current epoch, 1-based.
        global_step: optimizer steps done, over all epochs.
        max_steps: total number of optimizer steps.
    """

    epoch: int
    global_step: int
    max_steps: int

    @property
    def progress(self) -> float:
        """Fraction of the optimizer steps that are done, 0 to 1."""
        return self.global_step / self.max_steps


class Callback:
    """Hooks around the optimizer steps of a training; override the ones you need.

    Attributes:
        target_reached: whether the callback's target, such as a sparsity, is reached. Until then, each epoch replaces
            the best weights regardless of its score.
    """

    target_reached: bool = True

    def on_train_start(self, model: nn.Module, state: TrainerState) -> None:
        """Called when training starts or resumes from a checkpoint; on resume, `load_state_dict` follows."""

    def on_before_optimizer_step(self, model: nn.Module, state: TrainerState) -> None:
        """Called after the backward pass, before gradient clipping."""

    def on_train_batch_end(self, model: nn.Module, state: TrainerState) -> None:
        """Called after the optimizer step."""

    def on_validation_start(self, model: nn.Module, state: TrainerState) -> None:
        """Called before validation; `model` is the trained model, or the moving average (EMA) of its weights."""

    def state_dict(self) -> dict[str, Any]:
        """Return the callback's state for checkpoints: tensors and JSON-serializable values by name."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""


class KeepZeros(Callback):
    """Keep weights that are zero at the start of training at zero, so that a sparse model stays sparse."""

    def __init__(self) -> None:
        self.masks: dict[str, Tensor] = {}

    def on_train_start(self, model: nn.Module, state: TrainerState) -> None:
        """Store the masks of the zeros."""
        self.masks = zero_masks(model)

    def on_train_batch_end(self, model: nn.Module, state: TrainerState) -> None:
        """Apply the masks."""
        self.apply_masks(model)

    def on_validation_start(self, model: nn.Module, state: TrainerState) -> None:
        """Apply the masks, also to a moving average."""
        self.apply_masks(model)

    @torch.no_grad()
    def apply_masks(self, model: nn.Module) -> None:
        """Multiply the weights by their masks, in place."""
        for name, mask in self.masks.items():
            model.get_parameter(name).mul_(mask).add_(0.0)  # turns -0.0 into 0.0, which compresses better


def zero_masks(model: nn.Module) -> dict[str, Tensor]:
    """Return a 0/1 mask by name for each weight with some zeros; all-zero weights are left out as not pruned."""
    return {
        name: mask.to(parameter.dtype)
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and 0 < int((mask := parameter.detach() != 0).sum()) < mask.numel()
    }


def cubic_sparsity(target: float, step: int, last: int) -> float:
    """Return the sparsity at `step`, which rises from 0 to `target` at step `last` (Zhu and Gupta 2017, eq. 1)."""
    return target * (1 - (1 - min(step, last) / last) ** 3)
