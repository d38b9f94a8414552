"""Settings of a training, without torch, so that a recipe can be checked before torch is imported."""

from typing import Literal

from pydantic import Field

from mbcompress.components import Options


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
