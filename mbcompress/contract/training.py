"""Settings of a training, without torch, so that a recipe can be checked before torch is imported."""

from typing import Annotated, Literal

from pydantic import Field

from mbcompress.contract.options import Options
from mbcompress.contract.teachers import Teachers

Share = Annotated[float, Field(ge=0.25, le=1)]


class TrainingOptions(Options):
    """Stochastic gradient descent with Nesterov momentum and a learning-rate schedule."""

    epochs: int = Field(default=8, ge=0, le=10_000, description="Passes over the training images.")
    batch_size: int = Field(
        default=64, ge=2, le=65_536, description="Images in one step; BatchNorm needs two to have a spread."
    )
    lr: float = Field(default=0.05, gt=0, le=10, description="Peak learning rate.")
    schedule: Literal["cosine", "one_cycle", "constant"] = Field(
        default="cosine",
        description="cosine: linear warm-up, then half a cosine to zero; one_cycle: a third of the steps up, the rest "
        "down (Smith 2018); constant: after the warm-up, no change.",
    )
    warmup: float = Field(default=0.05, ge=0, lt=1, description="Share of the steps that the learning rate rises.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Nesterov momentum.")
    weight_decay: float = Field(
        default=5e-4, ge=0, le=1, description="L2 penalty on weights; never on biases and normalisation layers."
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="Share of the target spread over all classes.")
    clip_norm: float | None = Field(
        default=5.0, gt=0, description="Largest norm of the gradient over all weights; null for no limit."
    )
    norm_momentum: float | None = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Share of each batch in BatchNorm's running statistics while training; null keeps the model's own, "
        "which for MobileNetV3 (0.01) lags behind the weights in a short training.",
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="bf16 runs forward and loss under autocast; weights stay fp32."
    )
    crop_padding: int | None = Field(
        default=None, ge=0, le=128, description="Padding in pixels before a random crop; null takes the dataset's."
    )
    flip: bool | None = Field(
        default=None, description="Mirror images at random; null takes what is right for the dataset."
    )
    cutout: int = Field(
        default=0, ge=0, le=1024, description="Side in pixels of a square that is blanked in each image; 0 for none."
    )
    randaugment: int = Field(
        default=0, ge=0, le=8, description="Random operations on each image, as in RandAugment; 0 for none."
    )
    magnitude: int = Field(default=9, ge=0, le=30, description="Strength of the operations of 'randaugment'.")
    mixup: float = Field(
        default=0.0,
        ge=0,
        le=4,
        description="Alpha of the Beta distribution by which images and labels are blended in pairs; 0 for none.",
    )
    resolutions: tuple[Share, ...] = Field(
        default=(),
        max_length=64,
        description="Progressive resizing: shares of the input's side, each for an equal part of the epochs, as in "
        "[0.5, 0.75, 1, 1]; empty for full size throughout. Validation is at full size always.",
    )
    accumulation: int = Field(
        default=1,
        ge=1,
        le=4096,
        description="Parts that each batch is computed in, one after the other, their gradients averaged before the "
        "step: less memory, the same step but for BatchNorm, which sees parts.",
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Decay, for each step, of an exponential moving average of the weights, which is then what is "
        "validated and kept; null for the weights themselves.",
    )


class DistillationOptions(TrainingOptions):
    """A training in which a teacher's answers count beside the labels."""

    teacher: Teachers | None = Field(
        default="baseline",
        description="'baseline', the model as it was loaded, another model like {source: …, weights: …}, a list of "
        "them, whose logits are averaged, or null for labels alone.",
    )
    temperature: float = Field(
        default=4.0, gt=0, le=100, description="Divides the logits of both models before they are compared."
    )
    alpha: float = Field(
        default=0.5, ge=0, le=1, description="Weight of the teacher's answers in the loss; the labels have the rest."
    )
    hints: Literal["none", "features", "attention"] = Field(
        default="none",
        description="What else is learnt from the first teacher, at the last map of each size: its features, through "
        "linear adapters that are thrown away afterwards (FitNets, Romero et al. 2015), or where it looks (attention "
        "transfer, Zagoruyko and Komodakis 2017).",
    )
    hint_weight: float = Field(default=1.0, gt=0, le=10_000, description="Weight of the hints in the loss.")
