"""Client of a measuring process (`mbcompress.measure.worker`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mbcompress.contract.runtimes import ConvolutionCount, Runtime, WeightCount
from mbcompress.errors import MbcompressError
from mbcompress.graph.operators import registered_operators

if TYPE_CHECKING:
    from types import TracebackType

    from mbcompress.data.splits import Normalization


class Engine:
    """A file opened in its own process with a fixed number of threads; a context manager.

    Raises:
        MbcompressError: the runtime cannot open or run the file, or its process died.
    """

    def __init__(
        self, runtime: Runtime, path: Path, input_shape: tuple[int, ...], threads: int, batch: int = 1
    ) -> None:
        self.path = path
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed in __exit__
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mbcompress.measure.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            process_group=0,  # Ctrl-C must reach only the run, which stops at a safe point
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"},
        )
        setup = {
            "runtime": _import_path(runtime),
            "operators": [_import_path(operators) for operators in registered_operators().values()],
            "options": runtime.model_dump(mode="json"),
            "path": str(path.resolve()),
            "threads": threads,
            "images": [batch, *input_shape],
        }
        try:
            self.runtime: str = self._ask(setup)["runtime"]
        except MbcompressError:
            self._end()
            raise

    def time(self, duration_ms: float) -> list[float]:
        """Call with one batch for `duration_ms`, at least once; return the milliseconds of each call."""
        calls: list[float] = self._ask({"do": "time", "ms": duration_ms})["ms"]
        return calls

    def memory(self) -> dict[str, int]:
        """Return the peak resident bytes of the process, and how many of them the model and its runs added."""
        memory: dict[str, int] = self._ask({"do": "memory"})
        return memory

    def predict(self, images: Path, normalization: Normalization) -> np.ndarray:
        """Return logits (N, K) float32 of the images (N, C, H, W) in a .npy file, normalized batch by batch."""
        with tempfile.TemporaryDirectory() as directory:
            logits = Path(directory) / "logits.npy"
            request = {"do": "predict", "images": str(images.resolve()), "logits": str(logits)}
            self._ask({**request, "mean": normalization.mean, "std": normalization.std, "scale": normalization.scale})
            return np.asarray(np.load(logits, allow_pickle=False))

    def convolutions(self) -> ConvolutionCount:
        """Count the convolutions of the optimized graph."""
        return ConvolutionCount(**self._ask({"do": "convolutions"}))

    def zero_weights(self) -> WeightCount | None:
        """Count the weights of the file and the zeros among them; None if the runtime cannot."""
        counted = self._ask({"do": "zero_weights"})["counted"]
        return counted and WeightCount(**counted)

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise MbcompressError(f"{self.path}: the measuring process ended with {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise MbcompressError(answer["error"])
        return answer

    def _last_words(self) -> str:
        code = self.process.wait()
        self.log.seek(0)
        lines = [line for line in self.log.read().splitlines() if line.strip()]
        return f"exit code {code}" + (f": {lines[-1].strip()}" if lines else "")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.log.close()


def _import_path(component: object) -> str:
    """Return the import path of a class, because the process does not discover plugins."""
    return f"{type(component).__module__}:{type(component).__qualname__}"
