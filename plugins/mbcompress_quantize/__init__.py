"""int8 on torchao's PT2E flow: post-training quantization with neural-compressor, and QAT that starts from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mbcompress import BaseTrainingConfig, DistillationConfig, Pass, TrainingPass, Trait, hookimpl

from .options import PostTraining

if TYPE_CHECKING:
    from torch import nn

    from mbcompress import Context


class _Int8(Pass, PostTraining):
    """Traits and preview that both passes share."""

    provides: ClassVar[frozenset[Trait]] = frozenset({Trait.INT8})
    destroys: ClassVar[frozenset[Trait]] = frozenset({Trait.FLOAT})

    def preview(self, model: nn.Module, context: Context) -> nn.Module:
        from .posttraining import preview

        return preview(model, context, self, self.name)


class Ptq(_Int8):
    """Quantize to int8 without training: activation ranges from calibration images, choices by validation accuracy."""

    name = "ptq"

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        from .posttraining import PostTrainer

        return PostTrainer(model, context, self, self.name).run().model.convert()


class Qat(TrainingPass, _Int8):
    """Quantization-aware training from the result of `ptq`; keeps that result if training does not improve it."""

    name = "qat"
    consumes_input = False
    uses_runtimes = True
    examples = ({"training": {"epochs": 1}},)

    distillation: DistillationConfig | None = Field(
        default=DistillationConfig(temperature=2.0),
        description="Knowledge distillation; null trains on the labels only.",
    )
    # BatchNorm is folded: training diverges without gradient clipping
    training: BaseTrainingConfig = BaseTrainingConfig(epochs=3, lr=0.002, clip_norm=1.0)
    round_from: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Fraction of the training after which fake quantization starts.",
    )
    observe: float = Field(
        default=0.5, ge=0, le=1, description="Fraction of the training after which activation ranges are frozen."
    )

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        from .posttraining import PostTrainer
        from .training import train

        quantized = PostTrainer(model, context, self, self.name).run()
        return train(quantized, context, self, self.name) if self.training.epochs else quantized.model.convert()


@hookimpl
def mbcompress_passes() -> list[type[Pass]]:
    return [Ptq, Qat]
