"""Training options, and the base class of passes that train. Does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from mbcompress.contract.options import Options
from mbcompress.contract.passes import Pass
from mbcompress.contract.teachers import Teachers

if TYPE_CHECKING:
    from collections.abc import Iterator

Scale = Annotated[float, Field(ge=0.25, le=1)]


class BaseTrainingConfig(Options):
    """Training settings: optimizer, learning-rate schedule, regularization and augmentation."""

    epochs: int = Field(default=8, ge=0, le=10_000, description="Passes over the training images.")
    batch_size: int = Field(
        default=64, ge=2, le=65_536, description="Images in one optimizer step; BatchNorm needs at least two."
    )
    optimizer: Literal["sgd", "adamw"] = Field(
        default="sgd", description="sgd: with Nesterov momentum; adamw: Adam with decoupled weight decay."
    )
    lr: float = Field(default=0.05, gt=0, le=10, description="Peak learning rate; adamw needs about a tenth of sgd's.")
    schedule: Literal["cosine", "one_cycle", "constant"] = Field(
        default="cosine",
        description="cosine: linear warmup, then half a cosine to zero; one_cycle: torch's OneCycleLR (Smith 2018), "
        "which rises for 30 % of the steps; constant: linear warmup, then constant.",
    )
    warmup: float = Field(
        default=0.05, ge=0, lt=1, description="Fraction of the steps for linear warmup; ignored by one_cycle."
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Nesterov momentum of sgd.")
    weight_decay: float = Field(
        default=5e-4, ge=0, le=1, description="Weight decay; not applied to biases and normalization layers."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Fraction of the target probability spread over all classes."
    )
    clip_norm: float | None = Field(
        default=5.0, gt=0, description="Maximum norm of the gradient of the model's parameters; null for no limit."
    )
    bn_momentum: float | None = Field(
        default=0.1,
        gt=0,
        le=1,
        description="BatchNorm momentum during training; null keeps the model's own, which for MobileNetV3 (0.01) "
        "is too small for a short training.",
    )
    grad_accum_steps: int = Field(
        default=1,
        ge=1,
        le=4096,
        description="Number of parts each batch is split into, with gradients summed before the optimizer step: saves "
        "memory; the step is the same except for BatchNorm, which normalizes each part separately.",
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Decay per step of an exponential moving average of the weights, which is then validated and "
        "kept; null disables it.",
    )
    crop_padding: int | None = Field(
        default=None,
        ge=0,
        le=128,
        description="Padding in pixels before a random crop; null for the dataset's default.",
    )
    flip: bool | None = Field(
        default=None, description="Whether to apply random horizontal flips; null for the dataset's default."
    )
    cutout: int = Field(
        default=0, ge=0, le=1024, description="Side length in pixels of the cutout square in each image; 0 disables it."
    )
    randaugment: int = Field(
        default=0, ge=0, le=8, description="Number of RandAugment operations per image; 0 disables it."
    )
    randaugment_magnitude: int = Field(default=9, ge=0, le=30, description="Magnitude of the RandAugment operations.")
    mixup: float = Field(
        default=0.0,
        ge=0,
        le=4,
        description="Alpha of the Beta distribution of mixup coefficients; 0 disables mixup.",
    )


class TrainingConfig(BaseTrainingConfig):
    """Training settings: optimizer, learning-rate schedule, regularization and augmentation."""

    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="bf16 runs the forward pass and the loss under autocast; weights stay in fp32."
    )
    resolutions: tuple[Scale, ...] = Field(
        default=(),
        max_length=64,
        description="Progressive resizing: fractions of the input size, each for an equal part of the epochs, for "
        "example [0.5, 0.75, 1, 1]; empty for full size. Validation always uses full size.",
    )


class DistillationConfig(Options):
    """Knowledge distillation: training on a teacher's outputs besides the labels (Hinton et al. 2015)."""

    teacher: Teachers = Field(
        default="baseline",
        description="'baseline', the model as loaded; another model like {source: …, weights: …}; or a list of "
        "them, whose logits are averaged.",
    )
    temperature: float = Field(
        default=4.0, gt=0, le=100, description="Temperature that divides the logits of both models."
    )
    alpha: float = Field(
        default=0.5, ge=0, le=1, description="Weight of the distillation loss; the cross-entropy has weight 1 - alpha."
    )
    hints: Literal["none", "features", "attention"] = Field(
        default="none",
        description="What else to match with the first teacher, at the last feature map of each size: the features, "
        "through linear adapters that are discarded after training (FitNets, Romero et al. 2015), or attention maps "
        "(Zagoruyko and Komodakis 2017).",
    )
    hint_weight: float = Field(default=1.0, gt=0, le=10_000, description="Weight of the hints in the loss.")


class TrainingPass(Pass):
    """A pass that trains its model: `apply` ends with `return context.fit(model, self.training)`.

    A subclass overrides the default: `training: TrainingConfig = TrainingConfig(epochs=20)`. Fields that a recipe does
    not set keep the values of that default.
    """

    consumes_input: ClassVar[bool] = True

    training: BaseTrainingConfig = TrainingConfig()


def trainings_in(options: Options) -> Iterator[BaseTrainingConfig]:
    """Yield the training configurations in a pass's options, without those of zero epochs."""
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, BaseTrainingConfig) and value.epochs:
            yield value
