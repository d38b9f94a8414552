"""A model from a Python callable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, FilePath

from mbcompress import MbcompressError, ModelSource
from mbcompress.errors import brief

from . import target

if TYPE_CHECKING:
    from torch import nn

Target = Annotated[str, AfterValidator(target.check)]


class PythonModel(ModelSource):
    """Your own model, from a callable in a Python module."""

    name: ClassVar[str] = "python"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ()

    target: Target = Field(
        description="'package.module:callable', a class or function that returns an nn.Module. It is imported and "
        "called, so only use code that you trust."
    )
    args: dict[str, Any] = Field(default={}, description="Keyword arguments of the callable.")
    channels: int = Field(default=3, ge=1, le=1024, description="Channels of the input images.")
    input_size: int = Field(default=224, ge=1, le=4096, description="Height and width of the input images in pixels.")
    input_width: int | None = Field(
        default=None, ge=1, le=4096, description="Width of the input images in pixels, if they are not square."
    )
    weights: FilePath | None = Field(
        default=None,
        description="A .safetensors file, or a PyTorch checkpoint that contains only tensors; null keeps the weights "
        "of the returned model.",
    )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.channels, self.input_size, self.input_width or self.input_size

    def load(self) -> nn.Module:
        from torch import nn

        from mbcompress import load_weights

        model = target.call(self.target, self.args)
        if not isinstance(model, nn.Module):
            raise MbcompressError(f"{self.target}: must return an nn.Module, got {type(model).__name__}")
        model = model.cpu().eval()
        if self.weights is not None:
            load_weights(model, self.weights, self.target)
        self._check_classes(model)
        return model

    def _check_classes(self, model: nn.Module) -> None:
        import torch

        images = torch.zeros(2, *self.input_shape)
        try:
            with torch.no_grad():
                logits = model(images)
        except Exception as error:  # the user's code
            shape = "x".join(map(str, self.input_shape))
            problem = f"{type(error).__name__}: {brief(str(error))}"
            raise MbcompressError(f"{self.target}: the module cannot run on images of {shape} ({problem})") from error
        expected = (2, self.num_classes)
        actual = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        if actual != expected:
            raise MbcompressError(
                f"{self.target}: the module must return logits of shape {expected} here, got {actual}"
            )
