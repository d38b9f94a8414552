"""torch as a runtime: programs of torch.export, compiled or not, and AOTInductor packages."""

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
        description="Pack weights for oneDNN while compiling, and compute int8 convolutions in int8 instead of float: "
        "faster for large images, slower for small ones.",
    )


class TorchRuntime(Runtime):
    """torch on the CPU, from one program of torch.export with a free batch size."""

    name: ClassVar[str] = "torch"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"mode": "eager"},)
    suffix: ClassVar[str] = ".pt2"
    channel_multiple: ClassVar[int] = 16
    needs_torch: ClassVar[bool] = True

    mode: Literal["compile", "eager"] = Field(
        default="compile",
        description="Compile the program with torch.compile when it is opened, which takes half a minute and needs a "
        "C++ compiler, or execute it operator by operator.",
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

        frozen = self.mode == "compile" and self.freezing  # otherwise convolutions are computed in float
        int8 = integer_convolutions(path) if frozen else 0
        return ConvolutionCount(count_convolutions(load(path)), int8)

    def describe(self) -> str:
        import torch

        compiled = "torch.compile, frozen" if self.freezing else "torch.compile"
        how = compiled if self.mode == "compile" else "eager"
        return f"torch {torch.__version__.partition('+')[0]} (CPU, {how})"


class AotInductor(Runtime):
    """AOTInductor on the CPU: a package of machine code and weights that needs no Python, with a free batch size."""

    name: ClassVar[str] = "aotinductor"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ()  # needs a C++ compiler, and a minute
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
