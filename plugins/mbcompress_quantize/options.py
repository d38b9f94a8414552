"""What post-training quantization can be told; quantization-aware training starts from its result."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mbcompress import Options
from mbcompress.contract.unsupported import Unsupported


class Autotune(Options):
    """A search for the fewest layers in float that keep the accuracy within a budget."""

    accuracy_drop: float = Field(
        default=0.5, ge=0, le=100, description="Points of validation accuracy that int8 may cost, against float."
    )
    max_trials: int = Field(default=8, ge=1, le=1000, description="Sets of float layers to try at most.")
    max_float: float = Field(
        default=0.25, ge=0, le=1, description="Share of the convolutions and linear layers that may stay in float."
    )


ReduceRange = Literal["auto", "always", "never"]


class PostTraining(Options):
    """Post-training quantization."""

    algorithm: Literal["best", "minmax", "kl"] = Field(
        default="best",
        description="Activation ranges from calibration images: their extremes, averaged over batches; the histogram's "
        "part that loses least, which neural-compressor calls kl; or whichever is better on the validation split.",
    )
    symmetric: bool = Field(default=False, description="Zero points of activations in the middle, at 128.")
    keep_float: tuple[str, ...] = Field(
        default=(),
        description="Convolutions and linear layers that stay in float: names, or patterns such as 'features.1.*'.",
    )
    autotune: Autotune | None = Field(
        default=None,
        description="Leave the most sensitive layers in float, as few as keep a budget of accuracy on the validation "
        "split; null for all layers in int8.",
    )
    reduce_range: ReduceRange = Field(
        default="auto",
        description="Whether layers in which two products can exceed 16 bits get 7-bit weights: auto where this "
        "processor adds in 16 bits, that is x86 without VNNI; always, for files that such processors will run; never.",
    )
    equalize: bool = Field(
        default=False,
        description="Even out the channels' ranges between layers (Nagel et al. 2019), where that is exact; kept if it "
        "helps on the validation split.",
    )
    correct_bias: bool = Field(
        default=False,
        description="Correct each layer's bias by the mean error of its outputs (Nagel et al. 2019); kept if it helps "
        "on the validation split.",
    )
    sensitivity: bool = Field(
        default=False, description="Show what each layer costs, quantized alone and left out alone."
    )
    sensitivity_images: int = Field(
        default=500, ge=1, le=1_000_000, description="Validation images that the analysis of layers looks at."
    )
    unsupported: Unsupported = "skip"
