"""Runtime `litert`: .tflite files executed by LiteRT on the CPU, as on Android. Extra `litert`."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from mbcompress import ConvolutionCount, MbcompressError, Runtime, Session, WeightCount, hookimpl
from mbcompress.errors import first_line
from mbcompress.graph import environment_variables

from .environment import is_ready, make

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import nn

    from mbcompress import Progress

INSTALLED = importlib.util.find_spec("ai_edge_litert") is not None


class LiteRT(Runtime):
    """LiteRT (formerly TensorFlow Lite); a .tflite file with batch size 1."""

    name: ClassVar[str] = "litert"
    # no example if it would install the converter, about 900 MB
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({},) if INSTALLED and is_ready() else ()
    suffix: ClassVar[str] = ".tflite"

    @model_validator(mode="after")
    def _is_installed(self) -> Self:
        if not INSTALLED:
            raise ValueError("LiteRT is not installed; run `pip install 'mbcompress[litert]'`")
        return self

    def prepare(self, progress: Progress) -> None:
        make(progress)

    def export(self, model: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
        from .export import export

        export(model, input_shape, path)

    def open(self, path: Path, threads: int) -> Session:
        return LiteRTSession(path, threads)

    def convolutions(self, path: Path) -> ConvolutionCount:
        from .flatbuffer import count_convolutions

        return count_convolutions(path)

    def zero_weights(self, path: Path) -> WeightCount:
        from .flatbuffer import count_zeros

        return count_zeros(path)

    def describe(self) -> str:
        from importlib.metadata import version

        _interpreter()
        return f"LiteRT {version('ai-edge-litert')} (CPU)"


class LiteRTSession(Session):
    """An open .tflite file; runs a batch one image at a time."""

    def __init__(self, path: Path, threads: int) -> None:
        if not path.is_file():
            raise MbcompressError(f"{path}: no such file")
        try:
            self._interpreter = _interpreter()(str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise MbcompressError(f"{path}: LiteRT cannot open it: {first_line(error)}") from error
        (image,), (logits,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._input, self._output = image["index"], logits["index"]

    def run(self, images: np.ndarray) -> np.ndarray:
        import numpy as np

        return np.concatenate([self._run_one(image[None]) for image in images])

    def _run_one(self, image: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._input, image)
        self._interpreter.invoke()
        logits: np.ndarray = self._interpreter.get_tensor(self._output)
        return logits


def _interpreter() -> Any:
    with environment_variables(TF_CPP_MIN_LOG_LEVEL="2"):
        from ai_edge_litert.interpreter import Interpreter

    return Interpreter


@hookimpl
def mbcompress_runtimes() -> list[type[Runtime]]:
    return [LiteRT]
