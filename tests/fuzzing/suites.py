"""What is fuzzed, and in which proportions."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Protocol

Reading = Callable[[], object]
"""What is tried: a call that must succeed or raise MbcompressError."""


class Target(Protocol):
    """One way into the product. `prepare` writes a damaged input below a new folder and gives what reads it."""

    def prepare(self, random: Random, folder: Path) -> Reading: ...


def build(suite: str, folder: Path) -> list[tuple[int, Target]]:
    """The targets of a suite with their weights; what they start from is made below `folder`."""
    match suite:
        case "recipes":
            from fuzzing.recipes import Mappings, Overrides, Structures, Texts

            return [(5, Texts()), (4, Structures()), (2, Mappings()), (1, Overrides())]
        case "weights":
            from fuzzing.checkpoints import Checkpoints, Pickles, Strange
            from fuzzing.onnx_files import OnnxFiles
            from fuzzing.passes import Passes, Runs
            from fuzzing.safetensors_files import Safetensors

            weights = [(6, Safetensors()), (4, Checkpoints()), (4, Pickles()), (1, Strange())]
            return [*weights, (4, Passes(folder)), (1, Runs(folder)), (3, OnnxFiles())]
        case "images":
            from fuzzing.archives import Archives, CifarFiles
            from fuzzing.images import Images

            return [(12, Images(folder)), (5, Archives()), (1, CifarFiles(folder))]
    raise ValueError(suite)


SUITES = ("recipes", "weights", "images")
