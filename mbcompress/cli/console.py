"""Progress bars, and silence from libraries that talk to nobody in particular."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from mbcompress.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")


class ConsoleProgress(Progress):
    """Bars with time left on standard error; a finished one goes away and leaves a line where it took long."""

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

    def say(self, text: str) -> None:
        """A line above the bars."""
        self.bars.console.print(text, highlight=False, soft_wrap=True)


@contextmanager
def front(*, bars: bool) -> Iterator[Progress]:
    """Progress bars if wanted, and libraries that keep to themselves, while the block runs."""
    with _quiet_libraries():
        if not bars:
            yield Progress()
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        console = Console(stderr=True)
        with Bars(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as drawn:
            yield ConsoleProgress(drawn)


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
