"""Times files beside each other, so that what disturbs one disturbs all."""

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


@dataclass(frozen=True)
class Times:
    """What an engine took, in milliseconds: `rounds[r]` are the calls of round r."""

    rounds: Sequence[Sequence[float]]

    @property
    def calls(self) -> list[float]:
        """All calls of all rounds."""
        return [call for calls in self.rounds for call in calls]

    @property
    def medians(self) -> list[float]:
        """The median call of each round."""
        return [float(np.median(calls)) for calls in self.rounds]

    def over(self, other: Times) -> list[float]:
        """Median of each round over the other engine's median of the same round: above 1, the other one is faster."""
        return [own / its for own, its in zip(self.medians, other.medians, strict=True)]


@contextmanager
def opened(
    files: Iterable[tuple[Runtime, Path]], input_shape: tuple[int, ...], threads: int, batch: int = 1
) -> Iterator[list[Engine]]:
    """Engines of files, each in a process of its own, warmed up; closed when the block ends.

    Args:
        files: each with the runtime that opens it.
        input_shape: channels, height, width.
        threads: of each engine.
        batch: images in each call that is timed.

    Raises:
        MbcompressError: a runtime cannot open its file.
    """
    with ExitStack() as stack:
        engines = [stack.enter_context(Engine(runtime, path, input_shape, threads, batch)) for runtime, path in files]
        for engine in engines:
            engine.time(WARM_UP_MS)
        yield engines


class Timeable(Protocol):
    """What can be timed in turns with others: an `Engine`, for example."""

    def time(self, duration_ms: float, /) -> list[float]:
        """Return the milliseconds of each of the calls that fit into `duration_ms`, at least one."""
        ...


def time_interleaved(engines: Sequence[Timeable], rounds: Iterable[int], round_ms: float) -> list[Times]:
    """Each round times every engine once, and every other round in reverse order.

    Args:
        rounds: numbers from 0, one a round.
        round_ms: how long an engine is timed in a round.

    Returns:
        One for each engine, in their order.
    """
    timed: list[list[list[float]]] = [[] for _ in engines]
    for number in rounds:
        order = range(len(engines)) if number % 2 == 0 else reversed(range(len(engines)))
        for position in order:
            timed[position].append(engines[position].time(round_ms))
    return [Times(each) for each in timed]
