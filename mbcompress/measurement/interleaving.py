"""Times engines beside each other, so that what disturbs one disturbs all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mbcompress.measurement.engine import Engine


def time_interleaved(engines: Sequence[Engine], rounds: Iterable[int], round_ms: float) -> list[list[list[float]]]:
    """Each round times every engine once, and every other round in reverse order.

    Args:
        rounds: numbers from 0, one a round.
        round_ms: how long an engine is timed in a round.

    Returns:
        For each engine, for each round, the milliseconds of each call.
    """
    timed: list[list[list[float]]] = [[] for _ in engines]
    for number in rounds:
        order = range(len(engines)) if number % 2 == 0 else reversed(range(len(engines)))
        for position in order:
            timed[position].append(engines[position].time(round_ms))
    return timed
