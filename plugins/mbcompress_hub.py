"""Models from torchvision and timm by name; extras `torchvision` and `timm`."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, FilePath, model_validator

from mbcompress import MbcompressError, ModelSource, hookimpl
from mbcompress.errors import brief, first_line, shown

if TYPE_CHECKING:
    from torch import nn


class Hub(ModelSource):
    """A model library; source and extra are named after it."""

    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ()

    architecture: str = Field(min_length=1, description="Name of the architecture in the library.")
    args: dict[str, Any] = Field(default={}, description="Additional keyword arguments for the library's function.")
    input_size: int = Field(default=224, ge=8, le=4096, description="Height and width of the input in pixels.")
    download: bool = Field(default=False, description="Download the library's default pretrained weights.")
    weights: FilePath | None = Field(
        default=None,
        description="A .safetensors file, or a PyTorch checkpoint that contains only tensors; null for random weights, "
        "or pretrained ones with 'download'.",
    )

    @model_validator(mode="after")
    def _is_installed(self) -> Self:
        if importlib.util.find_spec(self.name) is None:
            raise ValueError(f"{self.name} is not installed; run `pip install 'mbcompress[{self.name}]'`")
        if self.download and self.weights is not None:
            raise ValueError("'download' and 'weights' exclude each other; remove one")
        return self

    @property
    def pretrained(self) -> bool:
        return self.download or self.weights is not None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return 3, self.input_size, self.input_size

    def load(self) -> nn.Module:
        from mbcompress import load_weights

        model = self._built()
        if self.weights is not None:
            load_weights(model, self.weights, f"{self.name}'s {self.architecture}")
        return model.eval()

    def _built(self) -> nn.Module:
        try:
            library = importlib.import_module(self._module)
        except Exception as error:  # a build for another torch raises RuntimeError, OSError or ImportError
            raise MbcompressError(
                f"model: {self.name} cannot be imported with this torch ({type(error).__name__}: "
                f"{brief(first_line(error))}); install the version built for it"
            ) from error
        names = self._names(library)
        if self.architecture not in names:
            near = difflib.get_close_matches(self.architecture, names, n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise MbcompressError(f"model: {self.name} has no architecture {shown(self.architecture)}{hint}")
        try:
            return self._build(library)
        except Exception as error:
            problem = f"{type(error).__name__}: {brief(first_line(error))}"
            raise MbcompressError(f"model: {self.name} cannot build {self.architecture!r} ({problem})") from error

    @property
    def _module(self) -> str:
        return self.name

    @abstractmethod
    def _names(self, library: Any) -> list[str]:
        """Names of the architectures."""

    @abstractmethod
    def _build(self, library: Any) -> nn.Module:
        """Build the model; may raise any exception."""


class TorchvisionModel(Hub):
    """A classification model from torchvision, by name."""

    name: ClassVar[str] = "torchvision"

    @property
    def _module(self) -> str:
        return "torchvision.models"

    def _names(self, library: Any) -> list[str]:
        return list(library.list_models(module=library))

    def _build(self, library: Any) -> nn.Module:
        weights = "DEFAULT" if self.download else None
        model: nn.Module = library.get_model(
            self.architecture, weights=weights, num_classes=self.num_classes, **self.args
        )
        return model


class TimmModel(Hub):
    """A classification model from timm (PyTorch Image Models), by name, such as MobileNetV1 to V4."""

    name: ClassVar[str] = "timm"

    channels: int = Field(default=3, ge=1, le=1024, description="Channels of the input images.")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.channels, self.input_size, self.input_size

    def _names(self, library: Any) -> list[str]:
        return [*library.list_models(), *library.list_pretrained()]

    def _build(self, library: Any) -> nn.Module:
        model: nn.Module = library.create_model(
            self.architecture,
            pretrained=self.download,
            num_classes=self.num_classes,
            in_chans=self.channels,
            **self.args,
        )
        return model


@hookimpl
def mbcompress_models() -> list[type[ModelSource]]:
    return [TorchvisionModel, TimmModel]
