"""Options of post-training quantization, from which quantization-aware training starts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mbcompress import Options, Unsupported


class Autotune(Options):
    """Search for the fewest float layers that keep the accuracy within a budget."""

    accuracy_drop: float = Field(
        default=0.5, ge=0, le=100, description="Points of validation accuracy that int8 may lose against float."
    )
    max_trials: int = Field(default=8, ge=1, le=1000, description="Largest number of sets of float layers to try.")
    max_float: float = Field(
        default=0.25, ge=0, le=1, description="Largest share of the convolutions and linear layers in float."
    )


ReduceRange = Literal["auto", "always", "never"]


class PostTraining(Options):
    """Post-training quantization."""

    algorithm: Literal["best", "minmax", "kl"] = Field(
        default="best",
        description="Activation ranges from calibration images: the extremes averaged over batches (minmax), the part "
        "of the histogram that loses least (kl), or the better of both on the validation split (best).",
    )
    symmetric: bool = Field(default=False, description="Put the zero points of activations at 128.")
    keep_float: tuple[str, ...] = Field(
        default=(),
        description="Convolutions and linear layers that stay in float: names, or patterns such as 'features.1.*'.",
    )
    autotune: Autotune | None = Field(
        default=None,
        description="Leave the most sensitive layers in float, as few as keep the accuracy on the validation split "
        "within a budget; null for all layers in int8.",
    )
    reduce_range: ReduceRange = Field(
        default="auto",
        description="Whether layers in which two products can exceed 16 bits get 7-bit weights: auto where this "
        "processor adds in 16 bits (x86 without VNNI), always for files that such processors will run, or never.",
    )
    equalize: bool = Field(
        default=False,
        description="Cross-layer equalization (Nagel et al. 2019) where it is exact; kept if it helps on the "
        "validation split.",
    )
    correct_bias: bool = Field(
        default=False,
        description="Correct each layer's bias by the mean error of its outputs (Nagel et al. 2019); kept if it "
        "helps on the validation split.",
    )
    sensitivity: bool = Field(
        default=False, description="Measure what each layer costs, quantized alone and left in float alone."
    )
    sensitivity_images: int = Field(
        default=500, ge=1, le=1_000_000, description="Number of validation images for `sensitivity`."
    )
    unsupported: Unsupported = "skip"
