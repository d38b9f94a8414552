"""The same network in several runtimes: their files timed beside each other, and whose answers they give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mbcompress.measure.compare import thread_counts
from mbcompress.measure.interleaving import opened, time_interleaved
from mbcompress.measure.statistics import proportion, spread

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mbcompress.contract.progress import Progress
    from mbcompress.contract.runtimes import Runtime
    from mbcompress.measure.compare import Comparison
    from mbcompress.recipe.model import Measure


def across(
    runtimes: Sequence[Runtime],
    paths: Sequence[Path],
    comparisons: Sequence[Comparison],
    input_shape: tuple[int, ...],
    measure: Measure,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Set the result's files of all runtimes side by side; the first is what the others are compared with.

    All are open at once, each in a process of its own, and take turns in the same rounds.

    Args:
        runtimes: at least two.
        paths: the result's file for each.
        comparisons: what `compare` gave for each.
        input_shape: channels, height, width.
        measure: rounds, and threads, of which the fewest are used.
        progress: told what goes on.

    Returns:
        For each runtime {'runtime', 'file', 'threads', 'latency': spread in ms, 'ratio': spread of the first runtime's
        time over this one's, 'agreement': images that are given the class that the baseline gives in the first}.
    """
    threads = min(thread_counts(measure))
    with opened(zip(runtimes, paths, strict=True), input_shape, threads) as engines:
        turns = progress.track(range(measure.rounds), "timing, runtimes side by side", measure.rounds)
        times = time_interleaved(engines, turns, measure.round_ms)
        names = [engine.runtime for engine in engines]
    wanted = comparisons[0].answers[0].argmax(axis=1)
    return [
        {
            "runtime": name,
            "file": path.name,
            "threads": threads,
            "latency": spread(own.calls),
            "ratio": spread(times[0].over(own)),
            "agreement": proportion(comparison.answers[1].argmax(axis=1) == wanted),
        }
        for name, path, own, comparison in zip(names, paths, times, comparisons, strict=True)
    ]
