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
        narrow_layers: those whose weights use 7 bits, -64..64.
    """

    algorithm: Algorithm = "minmax"
    symmetric: bool = False
    float_layers: frozenset[str] = frozenset()
    narrow_layers: frozenset[str] = frozenset()

    def __str__(self) -> str:
        words = [self.algorithm, "symmetric" if self.symmetric else "asymmetric"]
        words += [f"{len(self.float_layers)} layers in float"] if self.float_layers else []
        words += [f"{len(self.narrow_layers)} layers with 7-bit weights"] if self.narrow_layers else []
        return ", ".join(words)
