"""How long work tells that it is going on. The default says nothing; the command line draws bars."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Progress:
    """Silent progress; a front end overrides the verbs."""

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """Yield `items`, showing how many of `total` are done."""
        yield from items

    @contextmanager
    def busy(self, label: str) -> Iterator[None]:
        """Show that something of unknown length is going on while the block runs."""
        yield

    @contextmanager
    def attributed(self, speaker: str) -> Iterator[None]:
        """What is printed while the block runs is `speaker`'s; here it is left alone, a front end with bars says so."""
        yield

    def say(self, text: str) -> None:
        """One line for a person that something noteworthy happened."""
