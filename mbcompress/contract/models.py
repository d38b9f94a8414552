"""ModelSource and ArchitectureSource: where a model comes from."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from mbcompress.contract.options import Component
from mbcompress.contract.zoo import Zoo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

MAX_CLASSES = 100_000
"""Maximum number of classes of a model, and of class indices in data."""


class ModelSource(Component):
    """Where a model comes from."""

    rebuildable: ClassVar[bool] = False
    """Whether the options (except `weights`) determine the architecture, and building it neither reads files nor runs
    code that an option names. Models of such sources are saved as options and channel counts, all others as graphs.
    `load` must also work under `torch.device("meta")`."""

    zoo: ClassVar[Zoo | None] = None
    """Bundled pretrained weights; `mbcompress info zoo:NAME` describes them."""

    num_classes: int = Field(ge=2, le=MAX_CLASSES, description="Number of classes, the width of the last layer.")

    @property
    def pretrained(self) -> bool:
        """Whether `load` returns trained weights, as a teacher needs, rather than random ones."""
        return True

    @property
    def trained_on(self) -> Mapping[str, Any] | None:
        """Name and options of the dataset that the weights were trained on, if known."""
        return None

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input image."""

    @abstractmethod
    def load(self) -> nn.Module:
        """Build the float model with its weights, on the CPU.

        Raises:
            MbcompressError: the weights are missing, damaged, or for another architecture.
        """


class ArchitectureSource(ModelSource):
    """A source with its own architecture and bundled weights; subclasses set `zoo` and implement `build`."""

    rebuildable: ClassVar[bool] = True
    zoo: ClassVar[Zoo]

    input_size: int = Field(
        default=224, ge=8, le=2048, description="Height and width of the input in pixels (the resolution multiplier)."
    )
    weights: str | None = Field(
        default=None,
        description="A .safetensors file, a PyTorch checkpoint of tensors only, or 'zoo:NAME' for bundled pretrained "
        "weights; null for random weights.",
    )

    @abstractmethod
    def build(self) -> nn.Module:
        """Build the model with random weights."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(3, input_size, input_size)."""
        return 3, self.input_size, self.input_size

    @property
    def pretrained(self) -> bool:
        """Whether `weights` is set."""
        return self.weights is not None

    @property
    def trained_on(self) -> Mapping[str, Any] | None:
        """The training dataset from the card of bundled weights."""
        return self.zoo.trained_on(self.weights)

    @field_validator("weights")
    @classmethod
    def _weights_exist(cls, weights: str | None) -> str | None:
        if weights is not None:
            cls.zoo.locate(weights)
        return weights

    @model_validator(mode="after")
    def _fits_the_bundled_weights(self) -> Self:
        self.zoo.check(self.weights, {"source": self.name, **self.model_dump()})
        return self

    def load(self) -> nn.Module:
        """Build the model in eval mode and load its weights."""
        from mbcompress.contract.weights import load_weights

        model = self.build()
        if self.weights is not None:
            width = getattr(self, "width", 1.0)
            load_weights(model, self.zoo.locate(self.weights), f"{self.name} with width {width:g}")
        return model.eval()
