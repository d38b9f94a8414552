"""What a training must hold to after each of its steps: weights that stay zero."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class Constraint(ABC):
    """Something that every step of a training might break, and that is put right after each."""

    settled: bool = True
    """Whether the model is as constrained as it shall be; weights of an epoch count as the best only then."""

    @abstractmethod
    def begin(self, model: nn.Module) -> None:
        """Take note of a model whose training begins, or goes on from a checkpoint."""

    @abstractmethod
    def after_step(self, model: nn.Module, done: float) -> None:
        """Put `model` right; `done` is the share of the training's steps, above 0 and up to 1."""

    @abstractmethod
    def hold(self, model: nn.Module) -> None:
        """Put right another module with the same parameters, such as an average."""

    def state(self) -> dict[str, Any]:
        """What cannot be read off the weights, for a checkpoint: anything that JSON holds."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027  # most have nothing to put back
        """Put back what `state` gave, after `begin`."""


class KeepZeros(Constraint):
    """Weights that are zero stay zero; for models that were made sparse."""

    def __init__(self) -> None:
        self.masks: dict[str, Tensor] = {}

    def begin(self, model: nn.Module) -> None:  # noqa: D102
        self.masks = zero_masks(model)

    def after_step(self, model: nn.Module, done: float) -> None:  # noqa: D102
        self.hold(model)

    @torch.no_grad()
    def hold(self, model: nn.Module) -> None:  # noqa: D102
        for name, mask in self.masks.items():
            model.get_parameter(name).mul_(mask).add_(0.0)  # -0.0 becomes 0.0: files compress better


def zero_masks(model: nn.Module) -> dict[str, Tensor]:
    """For each weight with zeros in it, what it must be multiplied by; one that is zero throughout was not pruned."""
    return {
        name: mask.to(parameter.dtype)
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and 0 < int((mask := parameter.detach() != 0).sum()) < mask.numel()
    }
