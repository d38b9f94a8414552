"""Compare baseline and result in one runtime, both exported the same way and measured in the same rounds."""

from __future__ import annotations

import os
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mbcompress.contract.metrics import Predictions
from mbcompress.measure.interleaving import open_engines, time_interleaved
from mbcompress.measure.statistics import hits, mcnemar, proportion, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

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
    """An exported file, with the parameters and MACs of the model inside."""

    path: Path
    parameters: int
    macs: int


class Comparison(NamedTuple):
    """Measurements of both files in one runtime.

    Attributes:
        figures: {'runtime', 'baseline', 'result', 'ratio', 'paired', 'metrics'}, as in the report.
        answers: test logits of the baseline and the result, (N, num_classes) float32 each.
    """

    figures: dict[str, Any]
    answers: tuple[np.ndarray, np.ndarray]


class _Inspection(NamedTuple):
    """What an engine reports about its file, except speed."""

    convolutions: ConvolutionCount
    weights: WeightCount | None
    logits: np.ndarray


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
    """Measure both files in one runtime, with two new processes for each number of threads.

    Memory is read in the first processes before they are timed. Predictions use memory themselves, so the last
    processes make them, after they are timed.
    """
    artifacts = (baseline, result)
    counts = thread_counts(measure)
    timings: list[dict[str, Any]] = []
    memory: list[dict[str, int]] = []
    inspections: list[_Inspection] = []
    for number, threads in enumerate(counts, start=1):
        files = [(runtime, artifact.path) for artifact in artifacts]
        with open_engines(files, test.pixels.shape[1:], threads) as engines:
            if number == 1:
                memory = [engine.memory() for engine in engines]
            timings.append(_time(engines, threads, measure, progress))
            if number == len(counts):
                inspections = _inspect(engines, test, normalization, progress)
    before, after = (
        _figures(artifact, inspection, [timing["latency"][position] for timing in timings], memory[position], test)
        for position, (artifact, inspection) in enumerate(zip(artifacts, inspections, strict=True))
    )
    answers = (inspections[0].logits, inspections[1].logits)
    figures = {
        "runtime": timings[0]["runtime"],
        "baseline": before,
        "result": after,
        "ratio": _ratios(before, after, timings),
        "paired": mcnemar(*(hits(logits, test.labels, 1) for logits in answers)),
        "metrics": metrics.measure(Predictions(test.labels, *answers)),
    }
    return Comparison(figures, answers)


def _figures(
    artifact: Artifact, inspection: _Inspection, latency: list[dict[str, Any]], memory: dict[str, int], test: Images
) -> dict[str, Any]:
    """Return the report's figures of one file; `latency` has one entry per thread count."""
    content = artifact.path.read_bytes()
    return {
        "accuracy": _accuracy(inspection.logits, test.labels),
        "size_bytes": len(content),
        "compressed_bytes": len(zlib.compress(content, DEFLATE_LEVEL)),
        "parameters": artifact.parameters,
        "macs": artifact.macs,
        "latency": min(latency, key=lambda timed: timed["threads"]),
        "latency_by_threads": latency,
        "memory": memory,
        "convolutions": inspection.convolutions._asdict(),
        "zero_weights": inspection.weights._asdict() if inspection.weights else None,
    }


def _accuracy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Return top-1, and top-5 if there are more than five classes."""
    return {f"top{k}": proportion(hits(logits, labels, k)) for k in (1, TOP_K) if k == 1 or k < logits.shape[1]}


def _ratios(before: dict[str, Any], after: dict[str, Any], timings: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the ratios baseline / result; latency is the median over rounds."""
    return {
        "latency": min(timings, key=lambda timing: timing["threads"])["ratio"]["median"],
        "size": before["size_bytes"] / after["size_bytes"],
        "macs": before["macs"] / after["macs"],
        "parameters": before["parameters"] / after["parameters"],
        "latency_by_threads": [{"threads": timing["threads"], **timing["ratio"]} for timing in timings],
    }


def _time(engines: Sequence[Engine], threads: int, measure: Measure, progress: Progress) -> dict[str, Any]:
    """Measure the latency of each engine, and the ratio of their medians in each interleaved round."""
    label = f"timing, {threads} thread{'s' if threads > 1 else ''}"
    rounds = progress.track(range(measure.rounds), label, measure.rounds)
    before, after = time_interleaved(engines, rounds, measure.round_ms)
    return {
        "runtime": engines[0].runtime,
        "threads": threads,
        "latency": [_latency(engines[0].runtime, threads, times.calls) for times in (before, after)],
        "ratio": spread(before.over(after)),
    }


def _latency(runtime: str, threads: int, calls: Sequence[float]) -> dict[str, Any]:
    return {
        "runtime": runtime,
        "threads": threads,
        "batch": 1,
        **{f"{name}_ms": value for name, value in spread(calls).items()},
        "calls": len(calls),
    }


def _inspect(
    engines: Sequence[Engine], test: Images, normalization: Normalization, progress: Progress
) -> list[_Inspection]:
    counts = [(engine.convolutions(), engine.zero_weights()) for engine in engines]
    logits = []
    with tempfile.TemporaryDirectory() as directory:
        images = Path(directory) / "test.npy"
        np.save(images, test.pixels, allow_pickle=False)
        for engine in engines:
            with progress.busy(f"{engine.path.name}: accuracy on {len(test)} test images"):
                logits.append(engine.predict(images, normalization))
    return [_Inspection(*counted, answers) for counted, answers in zip(counts, logits, strict=True)]


def thread_counts(measure: Measure) -> Sequence[int]:
    """Return the thread counts to measure with: by default 1 and the number of cores."""
    if measure.threads is not None:
        return measure.threads
    return (1,) if _cores() == 1 else (1, _cores())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
