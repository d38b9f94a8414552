"""Runtime `executorch`: .pte files executed by XNNPACK on the CPU, as on Android and iOS. Extra `executorch`."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from mbcompress import ConvolutionCount, MbcompressError, Runtime, Session, hookimpl
from mbcompress.errors import first_line
from mbcompress.graph import quiet_libraries

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import nn

INSTALLED = importlib.util.find_spec("executorch") is not None


class ExecuTorch(Runtime):
    """ExecuTorch with XNNPACK; a .pte file with batch size 1."""

    name: ClassVar[str] = "executorch"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({},) if INSTALLED else ()
    suffix: ClassVar[str] = ".pte"
    needs_torch: ClassVar[bool] = True  # the Python binding links libtorch_python

    @model_validator(mode="after")
    def _is_installed(self) -> Self:
        if not INSTALLED:
            raise ValueError("ExecuTorch is not installed; run `pip install 'mbcompress[executorch]'`")
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
    """An open .pte file; runs a batch one image at a time."""

    def __init__(self, path: Path, threads: int) -> None:
        from torch import from_numpy

        if not path.is_file():
            raise MbcompressError(f"{path}: no such file")
        engine = _engine()
        engine._unsafe_reset_threadpool(threads)  # XNNPACK's thread pool is global; there is no other setting
        try:
            self._module = engine._load_for_executorch(str(path))
            self._module.method_meta("forward")  # reads the file; loading does not
        except Exception as error:  # the binding raises RuntimeError, or C++ errors
            raise MbcompressError(f"{path}: ExecuTorch cannot open it: {first_line(error)}") from error
        self._tensor = from_numpy

    def run(self, images: np.ndarray) -> np.ndarray:
        import numpy as np

        logits = [self._module.forward((self._tensor(image[None]),))[0].numpy() for image in images]
        return np.concatenate(logits)


def _engine() -> Any:
    """Import ExecuTorch's Python binding without its warning about API stability."""
    with quiet_libraries():
        from executorch.extension.pybindings import portable_lib
    return portable_lib


@hookimpl
def mbcompress_runtimes() -> list[type[Runtime]]:
    return [ExecuTorch]
