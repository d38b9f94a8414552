"""Supervised training: from scratch, or fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mbcompress import Pass, TrainingOptions, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from mbcompress import Context


class Train(Pass, TrainingOptions):
    """Train on the labels, keeping the weights that were best on the validation split."""

    name: ClassVar[str] = "train"
    consumes_input: ClassVar[bool] = True
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"epochs": 1},)

    epochs: int = Field(default=20, ge=0, le=10_000, description="Passes over the training images.")

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        from mbcompress.training import fit, label_loss

        history = fit(model, context, self, label_loss(self), self.name)
        context.metrics["best_epoch"] = history.best
        return model


@hookimpl
def mbcompress_passes() -> list[type[Pass]]:
    return [Train]
