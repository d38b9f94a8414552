"""How a network is quantized, layer by layer: what post-training quantization decides and training starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Algorithm = Literal["minmax", "kl"]


@dataclass(frozen=True)
class Scheme:
    """A choice for every layer.

    Attributes:
        algorithm: how activation ranges come from calibration images.
        symmetric: whether the zero point of every activation is 128.
        float_layers: convolutions and linear layers that stay in float, by name.
        reduce_range_layers: those with 7-bit weights, -64..64.
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
