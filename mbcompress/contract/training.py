"""What a recipe can say about a training, and the base class of passes that train. Imports no torch."""

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
    """How a training goes: optimizer, learning-rate schedule, regularization and augmentation."""

    epochs: int = Field(default=8, ge=0, le=10_000, description="Passes over the training images.")
    batch_size: int = Field(
        default=64, ge=2, le=65_536, description="Images in one optimizer step; BatchNorm needs at least two."
    )
    optimizer: Literal["sgd", "adamw"] = Field(
        default="sgd", description="sgd: with Nesterov momentum; adamw: Adam with decoupled weight decay."
    )
    lr: float = Field(default=0.05, gt=0, le=10, description="Peak learning rate; adamw wants about a tenth of it.")
    schedule: Literal["cosine", "one_cycle", "constant"] = Field(
        default="cosine",
        description="cosine: linear warmup, then half a cosine to zero; one_cycle: torch's OneCycleLR (Smith 2018), "
        "which rises for 30 % of the steps; constant: linear warmup, then no change.",
    )
    warmup: float = Field(
        default=0.05, ge=0, lt=1, description="Share of the steps in which the learning rate rises; not for one_cycle."
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Nesterov momentum of sgd.")
    weight_decay: float = Field(
        default=5e-4, ge=0, le=1, description="L2 penalty on weights, not on biases and normalization layers."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the target probability spread over all classes."
    )
    clip_norm: float | None = Field(
        default=5.0, gt=0, description="Largest norm of the gradient over all parameters; null for no limit."
    )
    bn_momentum: float | None = Field(
        default=0.1,
        gt=0,
        le=1,
        description="BatchNorm's momentum while training; null keeps the model's own, which for MobileNetV3 (0.01) "
        "lags behind the weights in a short training.",
    )
    grad_accum_steps: int = Field(
        default=1,
        ge=1,
        le=4096,
        description="Parts into which each batch is divided, their gradients summed before the optimizer step: less "
        "memory, and the same step except for BatchNorm, which sees the parts.",
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Decay per step of an exponential moving average of the weights, which is then validated and "
        "kept; null for the weights themselves.",
    )
    crop_padding: int | None = Field(
        default=None, ge=0, le=128, description="Padding in pixels before a random crop; null is the dataset's default."
    )
    flip: bool | None = Field(
        default=None, description="Whether to mirror images at random; null is the dataset's default."
    )
    cutout: int = Field(
        default=0, ge=0, le=1024, description="Side in pixels of a square that is blanked in each image; 0 for none."
    )
    randaugment: int = Field(
        default=0, ge=0, le=8, description="Number of RandAugment operations on each image; 0 for none."
    )
    randaugment_magnitude: int = Field(default=9, ge=0, le=30, description="Magnitude of the RandAugment operations.")
    mixup: float = Field(
        default=0.0,
        ge=0,
        le=4,
        description="Alpha of the Beta distribution by which pairs of images and labels are mixed; 0 for none.",
    )


class TrainingConfig(BaseTrainingConfig):
    """How a training goes: optimizer, learning-rate schedule, regularization and augmentation."""

    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="bf16 runs the forward pass and the loss under autocast; weights stay fp32."
    )
    resolutions: tuple[Scale, ...] = Field(
        default=(),
        max_length=64,
        description="Progressive resizing: shares of the input's side, each for an equal part of the epochs, for "
        "example [0.5, 0.75, 1, 1]; empty for full size. Validation is always at full size.",
    )


class DistillationConfig(Options):
    """What is learned from a teacher's outputs beside the labels (Hinton et al. 2015)."""

    teacher: Teachers = Field(
        default="baseline",
        description="'baseline', the model as it was loaded; another model like {source: …, weights: …}; or a list of "
        "them, whose logits are averaged.",
    )
    temperature: float = Field(
        default=4.0, gt=0, le=100, description="Divides the logits of both models before they are compared."
    )
    alpha: float = Field(
        default=0.5, ge=0, le=1, description="Weight of the teacher's outputs in the loss; the labels have the rest."
    )
    hints: Literal["none", "features", "attention"] = Field(
        default="none",
        description="What else is matched with the first teacher, at the last feature map of each size: the features, "
        "through linear adapters that are dropped afterwards (FitNets, Romero et al. 2015), or attention maps "
        "(Zagoruyko and Komodakis 2017).",
    )
    hint_weight: float = Field(default=1.0, gt=0, le=10_000, description="Weight of the hints in the loss.")


class TrainingPass(Pass):
    """A pass that trains the model it is given: `apply` ends with `return context.fit(model, self.training)`.

    A subclass changes defaults by another default: `training: TrainingConfig = TrainingConfig(epochs=20)`. Fields that
    a recipe does not set keep the values of that default.
    """

    consumes_input: ClassVar[bool] = True

    training: BaseTrainingConfig = TrainingConfig()


def trainings_in(options: Options) -> Iterator[BaseTrainingConfig]:
    """Yield the training configurations among the options of a pass that have epochs."""
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, BaseTrainingConfig) and value.epochs:
            yield value
