"""Baseline and result, exported alike, measured beside each other in the runtime they will be shipped in."""

from __future__ import annotations

import os
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mbcompress.contract.metrics import Predictions
from mbcompress.measure.interleaving import opened, time_interleaved
from mbcompress.measure.statistics import hits, mcnemar, proportion, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mbcompress.contract.progress import Progress
    from mbcompress.contract.runtimes import ConvolutionCount, Runtime, WeightCount
    from mbcompress.data.splits import Images, Normalization
    from mbcompress.measure.engine import Engine
    from mbcompress.measure.metrics import Metrics
    from mbcompress.recipe.model import Measure

TOP_K = 5
DEFLATE_LEVEL = 9


@dataclass(frozen=True)
class Artifact:
    """An exported file and what is known of the model inside."""

    path: Path
    parameters: int
    macs: int


class Comparison(NamedTuple):
    """What one runtime makes of both files.

    Attributes:
        figures: {'runtime', 'baseline', 'result', 'ratio', 'paired', 'metrics'}, as in the report.
        answers: logits of the baseline and of the result on the test images, (N, num_classes) float32 each.
    """

    figures: dict[str, Any]
    answers: tuple[np.ndarray, np.ndarray]


def compare(
    runtime: Runtime,
    baseline: Artifact,
    result: Artifact,
    test: Images,
    normalization: Normalization,
    measure: Measure,
    metrics: Metrics,
    progress: Progress,
) -> Comparison:
    """Measure both files in one runtime.

    Every number of threads has two processes of its own. Memory is asked of the first two before they are timed, what
    takes memory itself of the last two when they were.
    """
    artifacts = (baseline, result)
    counts = thread_counts(measure)
    timings: list[dict[str, Any]] = []
    memory: list[dict[str, int]] = []
    convolutions: list[ConvolutionCount] = []
    weights: list[WeightCount | None] = []
    answers: list[np.ndarray] = []
    for turn, threads in enumerate(counts):
        files = [(runtime, artifact.path) for artifact in artifacts]
        with opened(files, test.pixels.shape[1:], threads) as engines:
            if turn == 0:
                memory = [engine.memory() for engine in engines]
            timings.append(_time(engines, threads, measure, progress))
            if turn == len(counts) - 1:
                convolutions = [engine.convolutions() for engine in engines]
                weights = [engine.zero_weights() for engine in engines]
                answers = _predict(engines, artifacts, test, normalization, progress)
    first = min(timings, key=lambda timing: timing["threads"])
    figures = [
        {
            "accuracy": {
                f"top{k}": proportion(hits(answers[position], test.labels, k))
                for k in (1, TOP_K)
                if k == 1 or k < answers[position].shape[1]  # among five classes, every answer is in the top five
            },
            "size_bytes": artifact.path.stat().st_size,
            "compressed_bytes": len(zlib.compress(artifact.path.read_bytes(), DEFLATE_LEVEL)),
            "parameters": artifact.parameters,
            "macs": artifact.macs,
            "latency": first["latency"][position],
            "latency_by_threads": [timing["latency"][position] for timing in timings],
            "memory": memory[position],
            "convolutions": convolutions[position]._asdict(),
            "zero_weights": counted._asdict() if (counted := weights[position]) else None,
        }
        for position, artifact in enumerate(artifacts)
    ]
    before, after = figures
    compared = {
        "runtime": first["runtime"],
        "baseline": before,
        "result": after,
        "ratio": {
            "latency": first["ratio"]["median"],
            **{
                name: before[key] / after[key]
                for name, key in (("size", "size_bytes"), ("macs", "macs"), ("parameters", "parameters"))
            },
            "latency_by_threads": [{"threads": t["threads"], **t["ratio"]} for t in timings],
        },
        "paired": mcnemar(*(hits(logits, test.labels, 1) for logits in answers)),
        "metrics": metrics.measure(Predictions(test.labels, *answers)),
    }
    return Comparison(compared, (answers[0], answers[1]))


def _time(engines: Sequence[Engine], threads: int, measure: Measure, progress: Progress) -> dict[str, Any]:
    """Latency of each engine, and the ratio of the medians of each interleaved round."""
    label = f"timing, {threads} thread{'s' if threads > 1 else ''}"
    rounds = progress.track(range(measure.rounds), label, measure.rounds)
    before, after = time_interleaved(engines, rounds, measure.round_ms)
    return {
        "runtime": engines[0].runtime,
        "threads": threads,
        "latency": [_latency(engines[0].runtime, threads, times.calls) for times in (before, after)],
        "ratio": spread(before.over(after)),
    }


def _predict(
    engines: Sequence[Engine],
    artifacts: Sequence[Artifact],
    test: Images,
    normalization: Normalization,
    progress: Progress,
) -> list[np.ndarray]:
    """Each engine's logits on the test images: (N, num_classes) float32."""
    answers = []
    with tempfile.TemporaryDirectory() as directory:
        images = Path(directory) / "test.npy"
        np.save(images, test.pixels, allow_pickle=False)
        for engine, artifact in zip(engines, artifacts, strict=True):
            with progress.busy(f"{artifact.path.name}: accuracy on {len(test)} test images"):
                answers.append(engine.predict(images, normalization))
    return answers


def _latency(runtime: str, threads: int, calls: Sequence[float]) -> dict[str, Any]:
    return {
        "runtime": runtime,
        "threads": threads,
        "batch": 1,
        **{f"{name}_ms": value for name, value in spread(calls).items()},
        "calls": len(calls),
    }


def thread_counts(measure: Measure) -> Sequence[int]:
    """What to time with: by default one thread, then all cores."""
    if measure.threads is not None:
        return measure.threads
    return (1,) if _all_cores() == 1 else (1, _all_cores())


def _all_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
