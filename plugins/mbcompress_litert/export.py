"""Export a module to a .tflite file with torch.export, then with the converter in its own environment."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mbcompress import MbcompressError, Progress
from mbcompress.errors import brief
from mbcompress.graph import quiet_export, signed_int8_graph, to_contiguous

from .environment import make

if TYPE_CHECKING:
    from torch import nn

CONVERTER = Path(__file__).with_name("convert.py")


def export(model: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
    """Write `model` for one image (1, C, H, W) float32 -> (1, K) float32.

    Raises:
        MbcompressError: the model cannot be exported or converted, or the converter cannot be installed.
    """
    python = make(Progress())
    example = torch.zeros(1, *input_shape)
    with tempfile.TemporaryDirectory() as name:
        exported, converted = Path(name) / "model.pt2", Path(name) / "model.tflite"
        with quiet_export():
            try:
                graph = signed_int8_graph(to_contiguous(model), example)
                torch.export.save(torch.export.export(graph, (example,)), exported)
            except Exception as error:  # torch.export propagates any exception of the model
                reason = f"{type(error).__name__}: {brief(str(error))}"
                raise MbcompressError(f"litert: torch.export cannot capture the model ({reason})") from error
        _convert(python, exported, converted)
        path.write_bytes(converted.read_bytes())


def _convert(python: Path, exported: Path, converted: Path) -> None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": ""}
    command = [str(python), "-P", str(CONVERTER), str(exported), str(converted)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if process.returncode or not converted.exists():
        lines = [line for line in process.stderr.splitlines() if line.strip()]
        reason = brief(lines[-1]) if lines else f"exit code {process.returncode}"
        raise MbcompressError(f"litert: the converter failed: {reason}")
