"""int8 quantization-aware training on torchao's PT2E flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mbcompress import DistillationOptions, Pass, Trait, hookimpl
from mbcompress.unsupported import Unsupported, report_unsupported

if TYPE_CHECKING:
    from torch import nn

    from mbcompress import Context


class QAT(Pass, DistillationOptions):
    """Train with int8 rounding in the forward pass, then convert; plain post-training int8 stays if it is better."""

    name: ClassVar[str] = "qat"
    provides: ClassVar[frozenset[Trait]] = frozenset({Trait.INT8})
    destroys: ClassVar[frozenset[Trait]] = frozenset({Trait.FLOAT})
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"epochs": 1},)

    epochs: int = Field(
        default=3, ge=0, le=10_000, description="Passes over the training images; 0 is post-training quantization."
    )
    lr: float = Field(default=0.002, gt=0, le=10, description="Peak learning rate.")
    precision: Literal["fp32"] = Field(default="fp32", description="Fake quantization works on fp32 alone.")
    resolutions: tuple[float, ...] = Field(
        default=(), max_length=0, description="Empty: activation ranges belong to the size that is deployed."
    )
    clip_norm: float | None = Field(
        default=1.0,
        gt=0,
        description="Largest norm of the gradient; with folded BatchNorm, training diverges without a limit.",
    )
    temperature: float = Field(default=2.0, gt=0, le=100, description="As in 'distill'.")
    observe: float = Field(
        default=0.5, ge=0, le=1, description="Share of the training after which activation ranges are frozen."
    )
    unsupported: Unsupported = "skip"

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        from mbcompress.training import batches_per_epoch, fit, task_loss

        from .graph import FakeQuantized

        steps = self.epochs * batches_per_epoch(len(context.data.train), self.batch_size)
        quantized = FakeQuantized(model, context.example(2), observed_steps=round(self.observe * steps))
        report_unsupported(context, self.unsupported, "qat: stays in float", quantized.float_layers)
        context.metrics["float_layers"] = len(quantized.float_layers)
        quantized.calibrate(context.calibration_batches())
        with task_loss(quantized, context, self) as loss:
            history = fit(quantized, context, self, loss, self.name)
        context.metrics["ptq_top1"] = history.scores[0].top1
        context.metrics["best_epoch"] = history.best
        if history.best == 0 and self.epochs:
            context.progress.say("qat: training did not beat post-training quantization, which was kept")
        return quantized.convert()


@hookimpl
def mbcompress_passes() -> list[type[Pass]]:
    return [QAT]
