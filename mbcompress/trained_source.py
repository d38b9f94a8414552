"""A model source whose architecture can be built at random, or with weights from a file or from a zoo."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from mbcompress.components import ModelSource
from mbcompress.zoo import Zoo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn


class TrainedSource(ModelSource):
    """Subclasses set `zoo` and build the architecture that their options describe."""

    rebuildable: ClassVar[bool] = True
    zoo: ClassVar[Zoo]

    input_size: int = Field(
        default=224, ge=8, le=2048, description="Height and width of the input in pixels (the resolution multiplier)."
    )
    weights: str | None = Field(
        default=None,
        description="A .safetensors file, a PyTorch checkpoint that holds tensors only, or 'zoo:NAME'; null for random "
        "weights.",
    )

    @abstractmethod
    def build(self) -> nn.Module:
        """The network with random weights."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Three colours, square."""
        return 3, self.input_size, self.input_size

    @property
    def pretrained(self) -> bool:
        """Whether there are weights."""
        return self.weights is not None

    @property
    def trained_on(self) -> Mapping[str, Any] | None:
        """What the card in the zoo says."""
        return self.zoo.trained_on(self.weights)

    @field_validator("weights")
    @classmethod
    def _weights_exist(cls, weights: str | None) -> str | None:
        if weights is not None:
            cls.zoo.locate(weights)
        return weights

    @model_validator(mode="after")
    def _is_what_the_zoo_trained(self) -> Self:
        self.zoo.check(self.weights, {"source": self.name, **self.model_dump()})
        return self

    def load(self) -> nn.Module:
        """The network, in eval mode."""
        from mbcompress.weights import load_weights

        model = self.build()
        if self.weights is not None:
            width = getattr(self, "width", 1.0)
            load_weights(model, self.zoo.locate(self.weights), f"{self.name} with width {width:g}")
        return model.eval()
