"""Supervised training: from scratch, or fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbcompress import Pass, TrainingConfig, TrainingPass, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from mbcompress import Context


class Train(TrainingPass):
    """Train on the labels and keep the weights with the best validation score."""

    name = "train"
    examples = ({"training": {"epochs": 1}},)

    training: TrainingConfig = TrainingConfig(epochs=20)

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        return context.fit(model, self.training)


@hookimpl
def mbcompress_passes() -> list[type[Pass]]:
    return [Train]
