"""ResNet-9, a small residual network that trains fast on CPUs, used as a teacher for MobileNets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mbcompress import ArchitectureSource, ModelSource, Zoo, hookimpl

if TYPE_CHECKING:
    from torch import nn

ZOO = Zoo(Path(__file__).parent / "zoo")


class ResNet9Source(ArchitectureSource):
    """ResNet-9 for small images: eight dense 3x3 convolutions with two residual blocks (Page 2018)."""

    name: ClassVar[str] = "resnet9"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"width": 0.25, "input_size": 32},)
    zoo: ClassVar[Zoo] = ZOO

    width: float = Field(
        default=1.0, ge=0.125, le=4, description="Width multiplier; the first layer has 64 channels at 1.0."
    )

    def build(self) -> nn.Module:
        from .network import ResNet9

        return ResNet9(self.num_classes, self.width)


@hookimpl
def mbcompress_models() -> list[type[ModelSource]]:
    return [ResNet9Source]
