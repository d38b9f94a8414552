"""What a model would be as a file: its size and its speed, measured while a pass is at work."""

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
from mbcompress.graph.layout import prepare_for_export
from mbcompress.measure.engine import Engine
from mbcompress.measure.interleaving import opened, time_interleaved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from mbcompress.contract.context import Context
    from mbcompress.training.evaluation import Score

ROUNDS, ROUND_MS = 30, 20.0


class Deployment:
    """Files of models, exported for the first runtime of a run and measured beside the run's baseline.

    A context manager: the files are deleted at its end. The pass must set `uses_runtimes`. Where it looks ahead, size
    and latency are those of the file that the passes after it will make of the model, as far as their `preview` tells.
    Of several processes the main one measures, and all get its figures.

    Args:
        context: of the pass.
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
        """Bytes of the exported file, as a share of the baseline's."""
        return self.context.process_group.broadcast_object(
            lambda: self._export(self._finished(model)).stat().st_size / self._baseline.stat().st_size
        )

    def latency(self, model: nn.Module) -> float:
        """Time for one image on one thread, as a share of the baseline's: the median ratio of interleaved rounds."""
        return self.context.process_group.broadcast_object(lambda: self._ratio(model))

    def speedup(self, model: nn.Module, reference: nn.Module, threads: int = 1, batch: int = 1) -> Sequence[float]:
        """How many times faster than `reference` the model answers to `batch` images, in each interleaved round."""
        paths = (self._export(reference), self._export(model))
        return self.context.process_group.broadcast_object(lambda: self._paired(paths, threads, batch))

    def score(self, model: nn.Module) -> Score:
        """What the exported file answers to the validation images."""
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

    def _ratio(self, model: nn.Module) -> float:
        paths = self._baseline, self._export(self._finished(model))
        return float(np.median([1 / each for each in self._paired(paths, threads=1)]))

    def _finished(self, model: nn.Module) -> nn.Module:
        """What the passes that follow will make of it."""
        quiet = replace(self.context, metrics={}, files={}, progress=Progress(), later=())
        for step in self.context.later:
            model = preview_pass(step, model, quiet)
        return model

    def _paired(self, paths: Sequence[Path], threads: int, batch: int = 1) -> list[float]:
        """Time of the first file over that of the second, round by round."""
        with opened([(self.runtime, path) for path in paths], self.context.input_shape, threads, batch) as engines:
            before, after = time_interleaved(engines, range(ROUNDS), ROUND_MS)
        return before.over(after)

    def _export(self, model: nn.Module) -> Path:
        self._files += 1
        path = self._folder / f"{self._files}{self.runtime.suffix}"
        self.runtime.export(prepare_for_export(model), self.context.input_shape, path)
        return path
