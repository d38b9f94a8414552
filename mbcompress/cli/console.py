"""Progress in the terminal: progress bars, log lines, or nothing."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from mbcompress.cli.printing import lines_of
from mbcompress.contract.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")


class BarProgress(Progress):
    """Progress bars with the remaining time; each disappears when done."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """Show a progress bar while the items are consumed."""
        task = self.bars.add_task(label, total=total)
        try:
            for item in items:
                yield item
                self.bars.advance(task)
        finally:
            self.bars.remove_task(task)

    @contextmanager
    def busy(self, label: str) -> Iterator[None]:
        """Show a pulsing bar."""
        task = self.bars.add_task(label, total=None)
        try:
            yield
        finally:
            self.bars.remove_task(task)

    @contextmanager
    def attributed(self, speaker: str) -> Iterator[None]:
        """Print output of the block above the bars."""
        with lines_of(speaker, self.say):
            yield

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.bars.console.print(text, highlight=False, markup=False, soft_wrap=True)


class LineProgress(Progress):
    """One line per finished task, for log files."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """Print one line with the duration once the items are consumed."""
        start = time.monotonic()
        yield from items
        self.say(f"{label} ({time.monotonic() - start:.1f} s)")

    @contextmanager
    def attributed(self, speaker: str) -> Iterator[None]:
        """Print output of the block as lines."""
        with lines_of(speaker, self.say):
            yield

    def say(self, text: str) -> None:
        """Print a line to the stream."""
        print(text, file=self.stream, flush=True)


class SilentProgress(Progress):
    """No progress; output printed by passes is discarded too, so that standard output contains only the report."""

    @contextmanager
    def attributed(self, speaker: str) -> Iterator[None]:
        """Discard output of the block."""
        with lines_of(speaker, self.say):
            yield


@contextmanager
def front(*, shown: bool) -> Iterator[Progress]:
    """Yield the progress of a command: bars in a terminal, lines in a log file, or nothing."""
    console = Console(file=sys.stderr)  # created before the output of passes is redirected
    if not shown:
        yield SilentProgress()
    elif not console.is_terminal:
        yield LineProgress(sys.stderr)
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Bars(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bars:
            yield BarProgress(bars)
