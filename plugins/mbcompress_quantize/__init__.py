"""int8 on torchao's PT2E flow: post-training quantization by neural-compressor, and training that starts from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mbcompress import DistillationOptions, Pass, Trait, hookimpl

from .options import PostTraining

if TYPE_CHECKING:
    from torch import nn

    from mbcompress import Context


class _Int8(Pass, PostTraining):
    """Traits and preview of both passes."""

    provides: ClassVar[frozenset[Trait]] = frozenset({Trait.INT8})
    destroys: ClassVar[frozenset[Trait]] = frozenset({Trait.FLOAT})

    def preview(self, model: nn.Module, context: Context) -> nn.Module:
        from .posttraining import preview

        return preview(model, context, self, self.name)


class PTQ(_Int8):
    """Convert to int8 without training: ranges from calibration images, the best choice on the validation split."""

    name: ClassVar[str] = "ptq"

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        from .posttraining import PostTrainer

        return PostTrainer(model, context, self, self.name).run().model.convert()


class QAT(DistillationOptions, _Int8):
    """Train with int8 rounding in the forward pass, then convert; plain post-training int8 stays if it is better."""

    name: ClassVar[str] = "qat"
    uses_runtimes: ClassVar[bool] = True
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
    round_from: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the training after which rounding begins; until then activation ranges are observed.",
    )
    observe: float = Field(
        default=0.5, ge=0, le=1, description="Share of the training after which activation ranges are frozen."
    )

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        from .posttraining import PostTrainer
        from .training import train

        quantized = PostTrainer(model, context, self, self.name).run()
        return train(quantized, context, self, self.name) if self.epochs else quantized.model.convert()


@hookimpl
def mbcompress_passes() -> list[type[Pass]]:
    return [PTQ, QAT]
