"""Runtime `openvino`: .onnx files executed by OpenVINO on the CPU, which supports QDQ graphs natively."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping  # noqa: TC003  # pydantic reads annotations at run time
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from mbcompress import ConvolutionCount, MbcompressError, Session
from mbcompress.errors import first_line

from . import OnnxRuntime

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

INT8 = ("i8", "u8")
INSTALLED = importlib.util.find_spec("openvino") is not None


class OpenVino(OnnxRuntime):
    """OpenVINO on the CPU; an .onnx file with dynamic batch size."""

    name: ClassVar[str] = "openvino"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({},) if INSTALLED else ()
    suffix: ClassVar[str] = ".openvino.onnx"

    @model_validator(mode="after")
    def _is_installed(self) -> Self:
        if not INSTALLED:
            raise ValueError("OpenVINO is not installed; run `pip install 'mbcompress[openvino]'`")
        return self

    def open(self, path: Path, threads: int) -> Session:
        return OpenVinoSession(path, threads)

    def convolutions(self, path: Path) -> ConvolutionCount:
        operators = [op.get_rt_info() for op in OpenVinoSession(path, 1).compiled(1).get_runtime_model().get_ops()]
        precisions = [
            info["runtimePrecision"].astype(str) for info in operators if "Convolution" in info["layerType"].astype(str)
        ]
        return ConvolutionCount(len(precisions), sum(precision in INT8 for precision in precisions))

    def describe(self) -> str:
        import openvino

        return f"OpenVINO {openvino.__version__.partition('-')[0]} (CPU)"


class OpenVinoSession(Session):
    """An open .onnx file, compiled for each batch size on first use, because a dynamic batch size is slower."""

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        if not path.is_file():
            raise MbcompressError(f"{path}: no such file")
        self._core = openvino.Core()
        self._settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",  # otherwise bf16 on CPUs that support it; the baseline is fp32
        }
        try:
            self._model = self._core.read_model(str(path))
        except RuntimeError as error:
            raise MbcompressError(f"{path}: OpenVINO cannot open it: {first_line(error)}") from error
        self._requests: dict[int, Any] = {}

    def compiled(self, batch: int) -> Any:
        """Return the model compiled for this batch size."""
        model = self._model.clone()
        shape = model.inputs[0].partial_shape
        shape[0] = batch
        model.reshape({model.inputs[0].any_name: shape})
        return self._core.compile_model(model, "CPU", self._settings)

    def run(self, images: np.ndarray) -> np.ndarray:
        if len(images) not in self._requests:
            self._requests[len(images)] = self.compiled(len(images)).create_infer_request()
        answers = self._requests[len(images)].infer([images], share_inputs=True)
        logits: np.ndarray = answers.to_tuple()[0]
        return logits.copy()
