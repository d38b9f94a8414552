"""Ctrl-C and SIGTERM as a wish: work goes on to the next safe point, saves what there is, and ends there."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mbcompress.contract.progress import Progress
from mbcompress.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from mbcompress.contract.progress import T

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether somebody wishes that work ends; a program that sends no signals never does.

    Attributes:
        signal: the number of the signal that came, 0 before.
    """

    def __init__(self) -> None:
        self.signal = 0

    @property
    def requested(self) -> bool:
        """Whether work should end at the next safe point."""
        return self.signal != 0

    def check(self) -> None:
        """A safe point: nothing that is not saved would be lost here.

        Raises:
            Interrupted: work should end.
        """
        if self.requested:
            raise Interrupted(self.signal)


@contextmanager
def listening(interruption: Interruption, say: Callable[[str], None]) -> Iterator[None]:
    """Take the first SIGINT or SIGTERM as a wish while the block runs; the second one ends the program at once.

    Only the main thread of a program can do this; in any other the block runs as it is. A signal that was ignored, as
    SIGINT is in the background, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def wish(number: int, frame: FrameType | None) -> None:
        interruption.signal = number
        restore()
        say("interrupted: ends at the next safe point; once more ends it at once")

    for number in before:
        signal.signal(number, wish)
    try:
        yield
    finally:
        restore()


class Stoppable(Progress):
    """Another progress, in which every item of work and every piece of unknown length begins with a safe point."""

    def __init__(self, progress: Progress, interruption: Interruption) -> None:
        self.progress = progress
        self.interruption = interruption

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """Items as they are, until work should end."""
        for item in self.progress.track(items, label, total):
            self.interruption.check()
            yield item

    @contextmanager
    def busy(self, label: str) -> Iterator[None]:
        """A safe point, then the block."""
        self.interruption.check()
        with self.progress.busy(label):
            yield

    @contextmanager
    def attributed(self, speaker: str) -> Iterator[None]:
        """As the other progress does it."""
        with self.progress.attributed(speaker):
            yield

    def say(self, text: str) -> None:
        """As the other progress does it."""
        self.progress.say(text)
