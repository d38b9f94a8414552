"""Knowledge distillation: the model learns from a teacher's outputs.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mbcompress import Pass, Teacher, TrainingOptions, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from mbcompress import Context


class Distill(Pass, TrainingOptions):
    """Train on a teacher's softened outputs and on the labels."""

    name: ClassVar[str] = "distill"
    consumes_input: ClassVar[bool] = True
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"epochs": 1},)

    teacher: Teacher = Field(
        default="baseline",
        description="'baseline', the model as it was loaded, or another model like {source: …, weights: …}.",
    )
    temperature: float = Field(
        default=4.0, gt=0, le=100, description="Divides the logits of both models before they are compared."
    )
    alpha: float = Field(
        default=0.5, ge=0, le=1, description="Weight of the teacher in the loss; the labels have the rest."
    )

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        from mbcompress.training import distillation_loss, fit

        loss = distillation_loss(context.teacher(self.teacher), self.temperature, self.alpha, self)
        history = fit(model, context, self, loss, self.name)
        context.metrics["best_epoch"] = history.best
        return model


@hookimpl
def mbcompress_passes() -> list[type[Pass]]:
    return [Distill]
