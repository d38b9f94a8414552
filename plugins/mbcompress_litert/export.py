"""From a module to a .tflite file: captured here, converted in the converter's own environment."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mbcompress import MbcompressError, Progress
from mbcompress.errors import brief
from mbcompress.files import write_atomically
from mbcompress.graph.export import silenced
from mbcompress.graph.int8 import signed_int8_graph
from mbcompress.graph.layout import to_contiguous

from .environment import make

if TYPE_CHECKING:
    from torch import nn

CONVERTER = Path(__file__).with_name("convert.py")


def export(model: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
    """Write `model` for one image (1, C, H, W) float32 -> (1, K) float32.

    Raises:
        MbcompressError: the model cannot be captured or converted, or the converter cannot be installed.
    """
    python = make(Progress())
    example = torch.zeros(1, *input_shape)
    with tempfile.TemporaryDirectory() as name:
        captured, converted = Path(name) / "model.pt2", Path(name) / "model.tflite"
        with silenced():
            try:
                graph = signed_int8_graph(to_contiguous(model), example)
                torch.export.save(torch.export.export(graph, (example,)), captured)
            except Exception as error:  # torch.export passes on what the model raises
                reason = f"{type(error).__name__}: {brief(str(error))}"
                raise MbcompressError(f"litert: the model cannot be captured ({reason})") from error
        _convert(python, captured, converted)
        write_atomically(path, converted.read_bytes())


def _convert(python: Path, captured: Path, converted: Path) -> None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": ""}
    command = [str(each) for each in (python, "-P", CONVERTER, captured, converted)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ended.returncode or not converted.exists():
        said = [line for line in ended.stderr.splitlines() if line.strip()]
        reason = brief(said[-1]) if said else f"exit code {ended.returncode}"
        raise MbcompressError(f"litert: the converter failed: {reason}")
