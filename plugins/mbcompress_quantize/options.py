"""Options of post-training quantization, shared by `ptq` and `qat`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mbcompress import Options, Unsupported


class Autotune(Options):
    """Search for the fewest float layers that keep the accuracy drop within a limit."""

    accuracy_drop: float = Field(
        default=0.5, ge=0, le=100, description="Largest drop in validation top-1 from float to int8, in points."
    )
    max_trials: int = Field(default=8, ge=1, le=1000, description="Maximum number of sets of float layers to try.")
    max_float: float = Field(
        default=0.25, ge=0, le=1, description="Largest fraction of the convolutions and linear layers to keep in float."
    )


ReduceRange = Literal["auto", "always", "never"]


class PostTraining(Options):
    """Post-training quantization."""

    algorithm: Literal["best", "minmax", "kl"] = Field(
        default="best",
        description="How activation ranges are computed from calibration images: minmax, the batch extremes averaged "
        "over batches; kl, the range with the smallest error on a histogram; or best, the better of the two on the "
        "validation split.",
    )
    symmetric: bool = Field(
        default=False, description="Symmetric activation quantization, with all zero points at 128."
    )
    keep_float: tuple[str, ...] = Field(
        default=(),
        description="Convolutions and linear layers that stay in float: names, or patterns such as 'features.1.*'.",
    )
    autotune: Autotune | None = Field(
        default=None,
        description="Leave the most sensitive layers in float, as few as needed to keep the validation accuracy; null "
        "quantizes all layers.",
    )
    reduce_range: ReduceRange = Field(
        default="auto",
        description="Use 7-bit weights in layers where the sum of two products can exceed 16 bits: auto, if this CPU "
        "adds in 16 bits (x86 without VNNI); always, for files that will run on such CPUs; or never.",
    )
    equalize: bool = Field(
        default=False,
        description="Apply cross-layer equalization (Nagel et al. 2019) where it is exact; kept unless it lowers the "
        "validation score.",
    )
    correct_bias: bool = Field(
        default=False,
        description="Correct each layer's bias by the mean error of its outputs (Nagel et al. 2019); kept unless it "
        "lowers the validation score.",
    )
    sensitivity: bool = Field(
        default=False,
        description="Measure the sensitivity of each layer: quantized alone, and left in float alone.",
    )
    sensitivity_images: int = Field(
        default=500, ge=1, le=1_000_000, description="Number of validation images for `sensitivity`."
    )
    unsupported: Unsupported = "skip"
