"""Runtimes `torch` (exported programs, compiled or eager) and `aotinductor` (AOTInductor packages)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mbcompress import ConvolutionCount, Runtime, Session, hookimpl

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


def _freezing() -> Any:
    return Field(
        default=False,
        description="Inductor's freezing: pack weights for oneDNN, and run int8 convolutions in int8 instead of "
        "float. Faster for large images, slower for small ones.",
    )


class TorchRuntime(Runtime):
    """torch on the CPU; an exported program with dynamic batch size."""

    name: ClassVar[str] = "torch"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"mode": "eager"},)
    suffix: ClassVar[str] = ".pt2"
    channel_multiple: ClassVar[int] = 16
    needs_torch: ClassVar[bool] = True

    mode: Literal["compile", "eager"] = Field(
        default="compile",
        description="compile: use torch.compile when the program is opened, which takes half a minute and needs a C++ "
        "compiler; eager: execute it operator by operator.",
    )
    freezing: bool = _freezing()

    def export(self, model: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
        from .program import save

        save(model, input_shape, path)

    def open(self, path: Path, threads: int) -> Session:
        from .program import ProgramSession

        return ProgramSession(path, threads, compiled=self.mode == "compile", freezing=self.freezing)

    def convolutions(self, path: Path) -> ConvolutionCount:
        from .program import count_convolutions, integer_convolutions, load

        frozen = self.mode == "compile" and self.freezing  # otherwise convolutions run in float
        int8 = integer_convolutions(path) if frozen else 0
        return ConvolutionCount(count_convolutions(load(path)), int8)

    def describe(self) -> str:
        import torch

        compiled = "torch.compile, frozen" if self.freezing else "torch.compile"
        how = compiled if self.mode == "compile" else "eager"
        return f"torch {torch.__version__.partition('+')[0]} (CPU, {how})"


class AotInductor(Runtime):
    """AOTInductor on the CPU; a package of machine code and weights with dynamic batch size that needs no Python."""

    name: ClassVar[str] = "aotinductor"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ()  # needs a C++ compiler and takes a minute
    suffix: ClassVar[str] = ".aoti.pt2"
    channel_multiple: ClassVar[int] = 16
    needs_torch: ClassVar[bool] = True

    freezing: bool = _freezing()

    def export(self, model: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
        from .package import save

        save(model, input_shape, path, freezing=self.freezing)

    def open(self, path: Path, threads: int) -> Session:
        from .package import PackageSession

        return PackageSession(path, threads)

    def convolutions(self, path: Path) -> ConvolutionCount:
        from .package import count_convolutions

        return count_convolutions(path)

    def describe(self) -> str:
        import torch

        return f"AOTInductor of torch {torch.__version__.partition('+')[0]} (CPU)"


@hookimpl
def mbcompress_runtimes() -> list[type[Runtime]]:
    return [TorchRuntime, AotInductor]
