"""Compare the result's files across runtimes: latency in the same interleaved rounds, and agreement of predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mbcompress.measure.compare import thread_counts
from mbcompress.measure.interleaving import open_engines, time_interleaved
from mbcompress.measure.statistics import proportion, spread

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mbcompress.contract.progress import Progress
    from mbcompress.contract.runtimes import Runtime
    from mbcompress.measure.compare import Comparison
    from mbcompress.recipe.model import Measure


def compare_runtimes(
    runtimes: Sequence[Runtime],
    paths: Sequence[Path],
    comparisons: Sequence[Comparison],
    input_shape: tuple[int, ...],
    measure: Measure,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Time the result's files of all runtimes in the same rounds, each file in its own process.

    Args:
        runtimes: at least two; the first is the reference.
        paths: the result's file for each runtime.
        comparisons: the return value of `compare` for each runtime.
        input_shape: channels, height, width.
        measure: rounds, and thread counts, of which the smallest is used.
        progress: shows the rounds.

    Returns:
        For each runtime {'runtime', 'file', 'threads', 'latency': spread in ms, 'ratio': spread of the reference's
        time over this runtime's, 'agreement': images with the same class as the baseline in the reference runtime}.
    """
    threads = min(thread_counts(measure))
    with open_engines(zip(runtimes, paths, strict=True), input_shape, threads) as engines:
        rounds = progress.track(range(measure.rounds), "timing, all runtimes", measure.rounds)
        times = time_interleaved(engines, rounds, measure.round_ms)
        names = [engine.runtime for engine in engines]
    reference = comparisons[0].answers[0].argmax(axis=1)
    return [
        {
            "runtime": name,
            "file": path.name,
            "threads": threads,
            "latency": spread(timed.calls),
            "ratio": spread(times[0].over(timed)),
            "agreement": proportion(comparison.answers[1].argmax(axis=1) == reference),
        }
        for name, path, timed, comparison in zip(names, paths, times, comparisons, strict=True)
    ]
