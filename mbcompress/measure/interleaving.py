"""Interleaved timing, so that disturbances affect all candidates equally."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mbcompress.measure.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from mbcompress.contract.runtimes import Runtime

WARM_UP_MS = 200.0


class Timeable(Protocol):
    """Anything that can time its own calls, such as an `Engine`."""

    def time(self, duration_ms: float, /) -> list[float]:
        """Call repeatedly for `duration_ms`, at least once; return the milliseconds of each call."""
        ...


@dataclass(frozen=True)
class Times:
    """Times of one candidate in milliseconds: `rounds[r]` has the calls of round r."""

    rounds: Sequence[Sequence[float]]

    @property
    def calls(self) -> list[float]:
        """The calls of all rounds."""
        return [call for calls in self.rounds for call in calls]

    @property
    def medians(self) -> list[float]:
        """The median call of each round."""
        return [float(np.median(calls)) for calls in self.rounds]

    def over(self, other: Times) -> list[float]:
        """Return the ratio of medians of each round; above 1, `other` is faster."""
        return [own / its for own, its in zip(self.medians, other.medians, strict=True)]


@contextmanager
def open_engines(
    files: Iterable[tuple[Runtime, Path]], input_shape: tuple[int, ...], threads: int, batch: int = 1
) -> Iterator[list[Engine]]:
    """Open each file in its own process and warm it up; the processes end with the block.

    Args:
        files: pairs of runtime and file.
        input_shape: channels, height, width.
        threads: compute threads of each engine.
        batch: images in each timed call.

    Raises:
        MbcompressError: a runtime cannot open its file.
    """
    with ExitStack() as stack:
        engines = [stack.enter_context(Engine(runtime, path, input_shape, threads, batch)) for runtime, path in files]
        for engine in engines:
            engine.time(WARM_UP_MS)
        yield engines


def time_interleaved(candidates: Sequence[Timeable], rounds: Iterable[int], round_ms: float) -> list[Times]:
    """Time every candidate once in each round; every other round goes in reverse order.

    Args:
        candidates: what is timed.
        rounds: round numbers from 0.
        round_ms: duration of one candidate in one round.

    Returns:
        One `Times` for each candidate, in the same order.
    """
    timed: list[list[list[float]]] = [[] for _ in candidates]
    for number in rounds:
        order = range(len(candidates)) if number % 2 == 0 else reversed(range(len(candidates)))
        for position in order:
            timed[position].append(candidates[position].time(round_ms))
    return [Times(rounds_of_one) for rounds_of_one in timed]
