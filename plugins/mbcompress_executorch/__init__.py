"""ExecuTorch programs (.pte), executed by XNNPACK on the CPU, as on Android and iOS. Extra `executorch`."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from mbcompress import ConvolutionCount, MbcompressError, Runtime, Session, hookimpl
from mbcompress.errors import first_line

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import nn

INSTALLED = importlib.util.find_spec("executorch") is not None


class ExecuTorch(Runtime):
    """ExecuTorch with XNNPACK, from one .pte file that takes one image at a time."""

    name: ClassVar[str] = "executorch"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({},) if INSTALLED else ()
    suffix: ClassVar[str] = ".pte"
    needs_torch: ClassVar[bool] = True  # its Python binding is linked to libtorch_python

    @model_validator(mode="after")
    def _is_installed(self) -> Self:
        if not INSTALLED:
            raise ValueError("ExecuTorch is not installed; it comes with `pip install mbcompress[executorch]`")
        return self

    def export(self, model: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
        from .export import export

        export(model, input_shape, path)

    def open(self, path: Path, threads: int) -> Session:
        return ExecuTorchSession(path, threads)

    def convolutions(self, path: Path) -> ConvolutionCount:
        from .program import count_convolutions

        return count_convolutions(path)

    def describe(self) -> str:
        from importlib.metadata import version

        _engine()
        return f"ExecuTorch {version('executorch')} with XNNPACK (CPU)"


class ExecuTorchSession(Session):
    """One .pte file, open; a batch is run image by image."""

    def __init__(self, path: Path, threads: int) -> None:
        from torch import from_numpy

        if not path.is_file():
            raise MbcompressError(f"{path}: no such file")
        engine = _engine()
        engine._unsafe_reset_threadpool(threads)  # XNNPACK's pool is one for the process, and has no other setting
        try:
            self._module = engine._load_for_executorch(str(path))
            self._module.method_meta("forward")  # reads the file, which loading puts off
        except Exception as error:  # the binding raises RuntimeError, or what its C++ library has
            raise MbcompressError(f"{path}: ExecuTorch cannot open it: {first_line(error)}") from error
        self._tensor = from_numpy

    def run(self, images: np.ndarray) -> np.ndarray:
        import numpy as np

        answers = [self._module.forward((self._tensor(image[None]),))[0].numpy() for image in images]
        return np.concatenate(answers)


def _engine() -> Any:
    """ExecuTorch's own binding; it warns that it may change, and on import of many other things."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from executorch.extension.pybindings import portable_lib
    return portable_lib


@hookimpl
def mbcompress_runtimes() -> list[type[Runtime]]:
    return [ExecuTorch]
