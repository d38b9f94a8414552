"""Size, latency and predictions of a model as an exported file, measured while a pass runs."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from mbcompress.contract.apply import preview_pass
from mbcompress.contract.progress import Progress
from mbcompress.measure.engine import Engine
from mbcompress.measure.interleaving import open_engines, time_interleaved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from mbcompress.contract.context import Context
    from mbcompress.training.evaluation import Score

ROUNDS, ROUND_MS = 30, 20.0


class ExportBenchmark:
    """Exports models for the first runtime of a run and measures them against the run's baseline.

    A context manager; it deletes its files on exit. The pass must set `uses_runtimes`. If the pass also sets
    `looks_ahead`, `size` and `latency` apply the previews of the later passes first. With several processes, the main
    process measures and all processes get its figures.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.runtime = context.runtimes[0]
        self._resources = ExitStack()
        self._files = 0

    def __enter__(self) -> Self:
        self._folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory()))
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def size(self, model: nn.Module) -> float:
        """Return the size of the exported file relative to the baseline's."""
        return self.context.process_group.broadcast_object(
            lambda: self._export(self._previewed(model)).stat().st_size / self._baseline.stat().st_size
        )

    def latency(self, model: nn.Module) -> float:
        """Return the latency relative to the baseline's for one image and one thread, the median over rounds."""
        return self.context.process_group.broadcast_object(lambda: self._latency(model))

    def speedup(self, model: nn.Module, reference: nn.Module, threads: int = 1, batch: int = 1) -> Sequence[float]:
        """Return the speedup of `model` over `reference` in each interleaved round."""
        paths = (self._export(reference), self._export(model))
        return self.context.process_group.broadcast_object(lambda: self._ratios(paths, threads, batch))

    def score(self, model: nn.Module) -> Score:
        """Return the accuracy and loss of the exported file on the validation split."""
        return self.context.process_group.broadcast_object(lambda: self._score(model))

    def _score(self, model: nn.Module) -> Score:
        import torch

        from mbcompress.training.evaluation import score_of

        validation, shape = self.context.data.validation, self.context.input_shape
        images = self._folder / "validation.npy"
        np.save(images, validation.pixels, allow_pickle=False)
        with Engine(self.runtime, self._export(model), shape, threads=1) as engine:
            logits = engine.predict(images, self.context.data.normalization)
        return score_of(torch.from_numpy(logits), torch.from_numpy(validation.labels))

    @cached_property
    def _baseline(self) -> Path:
        return self._export(self.context.baseline)

    def _latency(self, model: nn.Module) -> float:
        paths = self._baseline, self._export(self._previewed(model))
        return float(np.median([1 / ratio for ratio in self._ratios(paths, threads=1)]))

    def _previewed(self, model: nn.Module) -> nn.Module:
        """Apply the previews of the later passes."""
        quiet = replace(self.context, metrics={}, files={}, progress=Progress(), later=())
        for later in self.context.later:
            model = preview_pass(later, model, quiet)
        return model

    def _ratios(self, paths: Sequence[Path], threads: int, batch: int = 1) -> list[float]:
        """Return time of the first file / time of the second, for each round."""
        files = [(self.runtime, path) for path in paths]
        with open_engines(files, self.context.input_shape, threads, batch) as engines:
            before, after = time_interleaved(engines, range(ROUNDS), ROUND_MS)
        return before.over(after)

    def _export(self, model: nn.Module) -> Path:
        from mbcompress.graph import prepare_for_export

        self._files += 1
        path = self._folder / f"{self._files}{self.runtime.suffix}"
        self.runtime.export(prepare_for_export(model), self.context.input_shape, path)
        return path
