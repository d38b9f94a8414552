"""The same network in several runtimes: their files timed beside each other, and whose answers they give."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from mbcompress.measurement.compare import WARM_UP_MS, thread_counts
from mbcompress.measurement.engine import Engine
from mbcompress.measurement.interleaving import time_interleaved
from mbcompress.measurement.statistics import proportion, spread

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mbcompress.components import Runtime
    from mbcompress.measurement.compare import Comparison
    from mbcompress.progress import Progress
    from mbcompress.recipe.plan import Measure


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
        measure: rounds, and threads, of which the first number is used.
        progress: told what goes on.

    Returns:
        For each runtime {'runtime', 'file', 'threads', 'latency': spread in ms, 'ratio': spread of the first runtime's
        time over this one's, 'agreement': images that are given the class that the baseline gives in the first}.
    """
    threads = thread_counts(measure)[0]
    with ExitStack() as stack:
        engines = [
            stack.enter_context(Engine(runtime, path, input_shape, threads))
            for runtime, path in zip(runtimes, paths, strict=True)
        ]
        for engine in engines:
            engine.time(WARM_UP_MS)
        turns = progress.track(range(measure.rounds), "timing, runtimes side by side", measure.rounds)
        rounds = time_interleaved(engines, turns, measure.round_ms)
        names = [engine.runtime for engine in engines]
    medians = [[float(np.median(calls)) for calls in each] for each in rounds]
    wanted = comparisons[0].answers[0].argmax(axis=1)
    return [
        {
            "runtime": name,
            "file": path.name,
            "threads": threads,
            "latency": spread([call for calls in timed for call in calls]),
            "ratio": spread([first / own for first, own in zip(medians[0], each, strict=True)]),
            "agreement": proportion(comparison.answers[1].argmax(axis=1) == wanted),
        }
        for name, path, timed, each, comparison in zip(names, paths, rounds, medians, comparisons, strict=True)
    ]
