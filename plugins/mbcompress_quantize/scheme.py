"""The quantization scheme of a model, chosen by post-training quantization and used by QAT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Algorithm = Literal["minmax", "kl"]


@dataclass(frozen=True)
class Scheme:
    """How each layer is quantized.

    Attributes:
        algorithm: how activation ranges are computed from calibration images.
        symmetric: whether the zero point of every activation is 128.
        float_layers: names of convolutions and linear layers that stay in float.
        reduce_range_layers: names of layers with 7-bit weights, -64..64.
    """

    algorithm: Algorithm = "minmax"
    symmetric: bool = False
    float_layers: frozenset[str] = frozenset()
    reduce_range_layers: frozenset[str] = frozenset()

    def __str__(self) -> str:
        words = [self.algorithm, "symmetric" if self.symmetric else "asymmetric"]
        words += [f"{len(self.float_layers)} layers in float"] if self.float_layers else []
        words += [f"{len(self.reduce_range_layers)} layers with 7-bit weights"] if self.reduce_range_layers else []
        return ", ".join(words)
