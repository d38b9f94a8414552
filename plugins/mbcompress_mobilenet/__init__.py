"""MobileNetV1, V2, V3-small and V3-large as model sources."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mbcompress import ArchitectureSource, ModelSource, Zoo, hookimpl

if TYPE_CHECKING:
    from torch import nn

HALVINGS = 5
ZOO = Zoo(Path(__file__).parent / "zoo")


class MobileNet(ArchitectureSource):
    """Options that the four architectures share."""

    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"width": 0.25, "input_size": 32},)
    zoo: ClassVar[Zoo] = ZOO

    width: float = Field(
        default=1.0, ge=0.1, le=4, description="Width multiplier for all channel counts, rounded as in the papers."
    )
    strides_removed: int = Field(
        default=0,
        ge=0,
        le=HALVINGS,
        description="Number of the five stride-2 layers, from the input, that use stride 1 instead. 0: as in the "
        "paper, final features at 1/32 of the input size; 1: the stem, 1/16; 2: the stem and the first downsampling "
        "block, 1/8, usual for 32 px images.",
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Dropout before the last layer.")

    def _strides(self) -> tuple[int, ...]:
        return (1,) * self.strides_removed + (2,) * (HALVINGS - self.strides_removed)


class MobileNetV1Source(MobileNet):
    """MobileNetV1: thirteen depthwise separable blocks (Howard et al. 2017)."""

    name: ClassVar[str] = "mobilenet_v1"

    def build(self) -> nn.Module:
        from .v1 import MobileNetV1

        return MobileNetV1(self.num_classes, self.width, self._strides(), self.dropout)


class MobileNetV2Source(MobileNet):
    """MobileNetV2: inverted residuals with linear bottlenecks (Sandler et al. 2018)."""

    name: ClassVar[str] = "mobilenet_v2"

    def build(self) -> nn.Module:
        from .v2 import MobileNetV2

        return MobileNetV2(self.num_classes, self.width, self._strides(), self.dropout)


class MobileNetV3SmallSource(MobileNet):
    """MobileNetV3-small: squeeze-and-excitation and h-swish (Howard et al. 2019)."""

    name: ClassVar[str] = "mobilenet_v3_small"

    def build(self) -> nn.Module:
        from .v3 import SMALL, SMALL_HIDDEN, MobileNetV3

        return MobileNetV3(SMALL, SMALL_HIDDEN, self.num_classes, self.width, self._strides(), self.dropout)


class MobileNetV3LargeSource(MobileNet):
    """MobileNetV3-large: squeeze-and-excitation and h-swish (Howard et al. 2019)."""

    name: ClassVar[str] = "mobilenet_v3_large"

    def build(self) -> nn.Module:
        from .v3 import LARGE, LARGE_HIDDEN, MobileNetV3

        return MobileNetV3(LARGE, LARGE_HIDDEN, self.num_classes, self.width, self._strides(), self.dropout)


@hookimpl
def mbcompress_models() -> list[type[ModelSource]]:
    return [MobileNetV1Source, MobileNetV2Source, MobileNetV3SmallSource, MobileNetV3LargeSource]
