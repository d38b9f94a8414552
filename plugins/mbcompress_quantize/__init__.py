"""int8 on torchao's PT2E flow: post-training quantization by neural-compressor, and training that starts from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mbcompress import BaseTrainingConfig, DistillationConfig, Pass, TrainingPass, Trait, hookimpl

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


class Ptq(_Int8):
    """Convert to int8 without training: ranges from calibration images, the best choice on the validation split."""

    name = "ptq"

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        from .posttraining import PostTrainer

        return PostTrainer(model, context, self, self.name).run().model.convert()


class Qat(TrainingPass, _Int8):
    """Train with int8 rounding in the forward pass, then convert; post-training int8 is kept where it is better."""

    name = "qat"
    consumes_input = False
    uses_runtimes = True
    examples = ({"training": {"epochs": 1}},)

    distillation: DistillationConfig | None = Field(
        default=DistillationConfig(temperature=2.0),
        description="What is learned from a teacher; null for the labels alone.",
    )
    # with folded BatchNorm, training diverges without a limit to the gradient
    training: BaseTrainingConfig = BaseTrainingConfig(epochs=3, lr=0.002, clip_norm=1.0)
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
        return train(quantized, context, self, self.name) if self.training.epochs else quantized.model.convert()


@hookimpl
def mbcompress_passes() -> list[type[Pass]]:
    return [Ptq, Qat]
