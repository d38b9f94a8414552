"""Progress of long work. The default is silent; the command line draws bars."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Progress:
    """Silent progress; front ends override the methods."""

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """Yield `items` and show how many of `total` are done."""
        yield from items

    @contextmanager
    def busy(self, label: str) -> Iterator[None]:
        """Show that work of unknown duration is in progress while the block runs."""
        yield

    @contextmanager
    def attributed(self, speaker: str) -> Iterator[None]:
        """Label output printed in the block with `speaker`; the default does not change the output."""
        yield

    def say(self, text: str) -> None:
        """Show one line of text."""
