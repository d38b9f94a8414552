"""Runtime: a file format for deployment, and the engine that runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from mbcompress.contract.options import Component

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import nn

    from mbcompress.contract.progress import Progress


class ConvolutionCount(NamedTuple):
    """Number of convolutions in the engine's graph, and how many of them run in int8."""

    total: int
    int8: int


class WeightCount(NamedTuple):
    """Number of convolution and matmul weights in a file, and how many of them are zero."""

    total: int
    zero: int


class Session(ABC):
    """A file opened in a runtime."""

    @abstractmethod
    def run(self, images: np.ndarray) -> np.ndarray:
        """Run inference: (N, C, H, W) float32 -> (N, num_classes) float32 logits."""


class Runtime(Component):
    """A file format for deployment, and the engine that runs it.

    `open`, `convolutions` and `zero_weights` run in a separate process, where latency and memory are measured. They
    must not import torch unless `needs_torch` is set.
    """

    suffix: ClassVar[str]
    """File name extension, with the dot."""

    channel_multiple: ClassVar[int] = 8
    """The engine is fastest if channel counts are multiples of this number."""

    needs_torch: ClassVar[bool] = False
    """Whether the engine requires torch in its process. Peak memory then includes torch, and `describe` must import it,
    so that its memory is not counted as the model's."""

    def prepare(self, progress: Progress) -> None:  # optional
        """Install or download what `export` needs; called once, before the passes run.

        Raises:
            MbcompressError: it is not available.
        """

    @abstractmethod
    def export(self, model: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
        """Write `model`, in eval mode on the CPU, to one file at `path`."""

    @abstractmethod
    def open(self, path: Path, threads: int) -> Session:
        """Load the file with a fixed number of compute threads."""

    @abstractmethod
    def convolutions(self, path: Path) -> ConvolutionCount:
        """Count the convolutions in the graph after the engine's optimizations."""

    def zero_weights(self, path: Path) -> WeightCount | None:
        """Count the convolution and matmul weights in the file; None if the runtime does not support this.

        A quantized weight is zero if it equals its zero point.
        """
        return None

    @abstractmethod
    def describe(self) -> str:
        """Return the engine's name and version for the report: 'ONNX Runtime 1.31.1 (CPU)'."""
