"""Runtimes `onnx` and `openvino`: .onnx files executed by ONNX Runtime or OpenVINO on the CPU."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mbcompress import ConvolutionCount, MbcompressError, Runtime, Session, WeightCount, hookimpl
from mbcompress.errors import first_line

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

ERROR = 3  # log severity; hides the warning that an optimized graph is specific to this machine


class OnnxRuntime(Runtime):
    """ONNX Runtime on the CPU; an .onnx file with dynamic batch size."""

    name: ClassVar[str] = "onnx"
    suffix: ClassVar[str] = ".onnx"
    channel_multiple: ClassVar[int] = 16  # multiples of 8 lose half of int8's speedup (depthwise kernels on x86-64)

    opset: int = Field(default=20, ge=18, le=25, description="Version of the ONNX operator set.")

    def export(self, model: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
        from .export import export

        export(model, input_shape, path, self.opset)

    def open(self, path: Path, threads: int) -> Session:
        return OnnxSession(_session(path, threads))

    def convolutions(self, path: Path) -> ConvolutionCount:
        import onnx

        with tempfile.TemporaryDirectory() as directory:
            optimized = Path(directory) / "optimized.onnx"
            _session(path, 1, optimized)
            operators = [node.op_type for node in onnx.load(optimized).graph.node]
        convolutions = [operator for operator in operators if operator.endswith("Conv")]
        return ConvolutionCount(len(convolutions), sum(operator.endswith("QLinearConv") for operator in convolutions))

    def zero_weights(self, path: Path) -> WeightCount:
        from .zeros import count_zeros

        return count_zeros(path)

    def describe(self) -> str:
        import onnxruntime

        return f"ONNX Runtime {onnxruntime.__version__} (CPU)"


class OnnxSession(Session):
    """An open .onnx file."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.input = session.get_inputs()[0].name

    def run(self, images: np.ndarray) -> np.ndarray:
        logits: np.ndarray = self.session.run(None, {self.input: images})[0]
        return logits


def _session(path: Path, threads: int, optimized: Path | None = None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERROR
    if optimized:
        options.optimized_model_filepath = str(optimized)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base class
        if path.is_file():
            raise MbcompressError(f"{path}: ONNX Runtime cannot open it: {first_line(error)}") from error
        raise MbcompressError(f"{path}: no such file") from None


@hookimpl
def mbcompress_runtimes() -> list[type[Runtime]]:
    from .openvino import OpenVino

    return [OnnxRuntime, OpenVino]
