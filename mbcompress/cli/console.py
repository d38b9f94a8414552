"""Progress bars, and silence from libraries that talk to nobody in particular."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from mbcompress.cli.printing import lines_of
from mbcompress.contract.progress import Progress
from mbcompress.pipeline.interruption import Interruption, Stoppable, listening

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")


class BarProgress(Progress):
    """Bars with time left on a terminal; each goes away when it is done."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """A bar while the items are consumed."""
        task = self.bars.add_task(label, total=total)
        try:
            for item in items:
                yield item
                self.bars.advance(task)
        finally:
            self.bars.remove_task(task)

    @contextmanager
    def busy(self, label: str) -> Iterator[None]:
        """A pulsing bar."""
        task = self.bars.add_task(label, total=None)
        try:
            yield
        finally:
            self.bars.remove_task(task)

    @contextmanager
    def attributed(self, speaker: str) -> Iterator[None]:
        """Lines above the bars."""
        with lines_of(speaker, self.say):
            yield

    def say(self, text: str) -> None:
        """A line above the bars."""
        self.bars.console.print(text, highlight=False, markup=False, soft_wrap=True)


class LineProgress(Progress):
    """A line for each finished piece of work, for a log file."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """A line with the seconds it took, once the items are consumed."""
        start = time.monotonic()
        yield from items
        self.say(f"{label} ({time.monotonic() - start:.1f} s)")

    @contextmanager
    def attributed(self, speaker: str) -> Iterator[None]:
        """Lines like all others."""
        with lines_of(speaker, self.say):
            yield

    def say(self, text: str) -> None:
        """A line on the stream."""
        print(text, file=self.stream, flush=True)


class SilentProgress(Progress):
    """Nothing, not even what passes print: standard output belongs to the report."""

    @contextmanager
    def attributed(self, speaker: str) -> Iterator[None]:
        """Silence."""
        with lines_of(speaker, self.say):
            yield


@contextmanager
def front(*, shown: bool) -> Iterator[Progress]:
    """Progress if wanted, libraries that keep to themselves, and a wish to end that is heard, while the block runs."""
    interruption = Interruption()
    with _quiet_libraries(), _progress(shown=shown) as progress, listening(interruption, progress.say):
        yield Stoppable(progress, interruption)


@contextmanager
def _progress(*, shown: bool) -> Iterator[Progress]:
    console = Console(file=sys.stderr)  # this very stream, whatever passes' output is redirected to
    if not shown:
        yield SilentProgress()
    elif not console.is_terminal:
        yield LineProgress(sys.stderr)
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Bars(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bars:
            yield BarProgress(bars)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Hide what torch and torchao say of their own internals; MBCOMPRESS_DEBUG=1 shows it."""
    if os.environ.get("MBCOMPRESS_DEBUG"):
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch  # noqa: F401  # sets the levels of its loggers, so ours must come after

        for name in ("torch", "torchao", "onnxscript", "onnx_ir"):
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
