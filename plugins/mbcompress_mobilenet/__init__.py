"""MobileNetV1, V2, V3-small and V3-large as model sources."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from mbcompress import ModelSource, hookimpl
from mbcompress.zoo import Zoo

if TYPE_CHECKING:
    from torch import nn

HALVINGS = 5
ZOO = Zoo(Path(__file__).parent / "zoo")


class MobileNet(ModelSource):
    """What the four architectures have in common."""

    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"width": 0.25, "input_size": 32},)
    rebuildable: ClassVar[bool] = True
    zoo: ClassVar[Zoo | None] = ZOO

    width: float = Field(
        default=1.0, ge=0.1, le=4, description="Width multiplier: scales every channel count, rounded as in the papers."
    )
    input_size: int = Field(
        default=224, ge=8, le=2048, description="Height and width of the input in pixels (the resolution multiplier)."
    )
    strides_removed: int = Field(
        default=0,
        ge=0,
        le=HALVINGS,
        description="How many of the five layers that halve the resolution, counted from the input, run at stride 1 "
        "instead. 0: the paper's network, features at 1/32 of the input; 1: the stem, 1/16; 2: the stem and the first "
        "downsampling block, 1/8, usual for 32 px images.",
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Dropout before the last layer, in training only.")
    weights: str | None = Field(
        default=None,
        description="A .safetensors file, a PyTorch checkpoint that holds tensors only, or 'zoo:NAME'; null for random "
        "weights.",
    )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return 3, self.input_size, self.input_size

    @property
    def pretrained(self) -> bool:
        return self.weights is not None

    @property
    def trained_on(self) -> Mapping[str, Any] | None:
        return ZOO.trained_on(self.weights)

    @field_validator("weights")
    @classmethod
    def _weights_exist(cls, weights: str | None) -> str | None:
        if weights is not None:
            ZOO.locate(weights)
        return weights

    @model_validator(mode="after")
    def _is_what_the_zoo_trained(self) -> Self:
        ZOO.check(self.weights, {"source": self.name, **self.model_dump()})
        return self

    def load(self) -> nn.Module:
        from mbcompress.weights import load_weights

        model = self._build()
        if self.weights is not None:
            load_weights(model, ZOO.locate(self.weights), f"{self.name} with width {self.width:g}")
        return model.eval()

    def _build(self) -> nn.Module:
        raise NotImplementedError

    def _strides(self) -> tuple[int, ...]:
        return (1,) * self.strides_removed + (2,) * (HALVINGS - self.strides_removed)


class MobileNetV1Source(MobileNet):
    """MobileNetV1: thirteen depthwise separable blocks (Howard et al. 2017)."""

    name: ClassVar[str] = "mobilenet_v1"

    def _build(self) -> nn.Module:
        from .v1 import MobileNetV1

        return MobileNetV1(self.num_classes, self.width, self._strides(), self.dropout)


class MobileNetV2Source(MobileNet):
    """MobileNetV2: inverted residuals with linear bottlenecks (Sandler et al. 2018)."""

    name: ClassVar[str] = "mobilenet_v2"

    def _build(self) -> nn.Module:
        from .v2 import MobileNetV2

        return MobileNetV2(self.num_classes, self.width, self._strides(), self.dropout)


class MobileNetV3SmallSource(MobileNet):
    """MobileNetV3-small: squeeze-and-excitation and h-swish (Howard et al. 2019)."""

    name: ClassVar[str] = "mobilenet_v3_small"

    def _build(self) -> nn.Module:
        from .v3 import SMALL, SMALL_HIDDEN, MobileNetV3

        return MobileNetV3(SMALL, SMALL_HIDDEN, self.num_classes, self.width, self._strides(), self.dropout)


class MobileNetV3LargeSource(MobileNet):
    """MobileNetV3-large: squeeze-and-excitation and h-swish (Howard et al. 2019)."""

    name: ClassVar[str] = "mobilenet_v3_large"

    def _build(self) -> nn.Module:
        from .v3 import LARGE, LARGE_HIDDEN, MobileNetV3

        return MobileNetV3(LARGE, LARGE_HIDDEN, self.num_classes, self.width, self._strides(), self.dropout)


@hookimpl
def mbcompress_models() -> list[type[ModelSource]]:
    return [MobileNetV1Source, MobileNetV2Source, MobileNetV3SmallSource, MobileNetV3LargeSource]
