"""Knowledge distillation: the model learns from a teacher's outputs.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mbcompress import DistillationOptions, Pass, Teachers, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from mbcompress import Context


class Distill(Pass, DistillationOptions):
    """Train on a teacher's softened outputs and on the labels."""

    name: ClassVar[str] = "distill"
    consumes_input: ClassVar[bool] = True
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"epochs": 1},)

    teacher: Teachers = Field(
        default="baseline",
        description="'baseline', the model as it was loaded, another model like {source: …, weights: …}, or a list of "
        "them, whose logits are averaged.",
    )

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        from mbcompress.training import fit, task_loss

        with task_loss(model, context, self) as loss:
            history = fit(model, context, self, loss, self.name)
        context.metrics["best_epoch"] = history.best
        return model


@hookimpl
def mbcompress_passes() -> list[type[Pass]]:
    return [Distill]
