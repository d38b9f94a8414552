"""Knowledge distillation from the outputs of a teacher model.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbcompress import DistillationConfig, Pass, TrainingConfig, TrainingPass, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from mbcompress import Context


class Distill(TrainingPass, DistillationConfig):
    """Train on the soft targets of a teacher and on the labels (knowledge distillation)."""

    name = "distill"
    examples = ({"training": {"epochs": 1}},)

    training: TrainingConfig = TrainingConfig()

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        return context.fit(model, self.training, distillation=self)  # the pass's own options are those of distillation


@hookimpl
def mbcompress_passes() -> list[type[Pass]]:
    return [Distill]
