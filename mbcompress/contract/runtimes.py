"""Runtime: a file format that models are shipped in, and the engine that executes it."""

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
    """How many convolutions an engine executes, and how many of them on integers."""

    total: int
    int8: int


class WeightCount(NamedTuple):
    """How many weights of convolutions and matrix products a file holds, and how many of them are zero."""

    total: int
    zero: int


class Session(ABC):
    """An artifact that is open in a runtime."""

    @abstractmethod
    def run(self, images: np.ndarray) -> np.ndarray:
        """(N, C, H, W) float32 -> (N, num_classes) float32 logits."""


class Runtime(Component):
    """A format that models are shipped in, and the engine that executes it.

    `open`, `convolutions` and `zero_weights` run in a process that holds nothing but the engine, which is the process
    that latency and memory are measured in. So they must not import torch, unless the engine itself `needs_torch`.
    """

    suffix: ClassVar[str]
    """File name extension of the artifact, with the dot."""

    channel_multiple: ClassVar[int] = 8
    """The engine's kernels are fastest where channel counts are multiples of this."""

    needs_torch: ClassVar[bool] = False
    """Whether the engine cannot be had without torch in its process, whose memory is then measured with it.
    `describe` must import it then, so that its memory is not taken for the model's."""

    def prepare(self, progress: Progress) -> None:  # nothing to get, for most
        """Get whatever `export` needs and is not here yet; called once, before anything is computed.

        Raises:
            MbcompressError: it cannot be had.
        """

    @abstractmethod
    def export(self, model: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
        """Write `model`, in eval mode on the CPU, to `path` as one file."""

    @abstractmethod
    def open(self, path: Path, threads: int) -> Session:
        """Load the artifact with a fixed number of compute threads."""

    @abstractmethod
    def convolutions(self, path: Path) -> ConvolutionCount:
        """Count the convolutions of the graph as the engine has optimized it."""

    def zero_weights(self, path: Path) -> WeightCount | None:
        """Count the weights of convolutions and matrix products as the file holds them; None where that is unknown.

        A quantized weight is zero where it equals its zero point.
        """
        return None

    @abstractmethod
    def describe(self) -> str:
        """Engine and version, as a report should name it: 'ONNX Runtime 1.31.1 (CPU)'."""
