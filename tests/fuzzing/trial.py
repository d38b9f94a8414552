"""One case after the other, each watched: what it raised, how long it took, and what it wrote."""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from fuzzing import suites
from mbcompress.errors import MbcompressError
from mbcompress.testing.writes import watched

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 5.0
"""Seconds that a case may take."""

LONGEST = 2000
"""Characters that a refusal may have; lists of what is known are long."""


@dataclass(frozen=True)
class Outcome:
    """How a case ended; `failure` says what is wrong with that, and is empty where nothing is."""

    number: int
    target: str
    refused: bool
    seconds: float
    failure: str = ""


@dataclass(frozen=True)
class Trial:
    """A suite that is ready to be tried."""

    suite: str
    seed: int
    targets: list[tuple[int, suites.Target]]
    touched: set[str]

    def attempt(self, number: int) -> Outcome:
        """Carry out one case."""
        random = Random(f"{self.seed}/{self.suite}/{number}")
        weights, targets = zip(*self.targets, strict=True)
        (target,) = random.choices(targets, weights)
        name = type(target).__name__
        with tempfile.TemporaryDirectory(prefix="case-", ignore_cleanup_errors=True) as folder:
            read = target.prepare(random, Path(folder))
            self.touched.clear()
            begun = time.monotonic()
            message, failure = _tried(read)
            seconds = time.monotonic() - begun
            failure = failure or self._written()
        if seconds > LIMIT:
            failure = failure or f"took {seconds:.1f} s"
        return Outcome(number, name, bool(message), seconds, failure)

    def _written(self) -> str:
        """What was written anywhere but in the cache of images."""
        cache = Path(os.environ.get("MBCOMPRESS_CACHE", os.devnull))
        found = {path for path in self.touched if not Path(path).is_relative_to(cache)}
        for place in (Path.cwd(), Path.home()):
            found |= {str(path) for path in place.iterdir()}
        return f"wrote {', '.join(sorted(found))}" if found else ""


@contextmanager
def ready(suite: str, seed: int) -> Iterator[Trial]:
    """A trial in a working directory, a home and a temporary directory of its own."""
    before = dict(os.environ)
    with watched() as touched, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            yield Trial(suite, seed, suites.build(suite, Path(folder)), touched)
        finally:
            os.environ.clear()
            os.environ.update(before)


def _tried(read: suites.Reading) -> tuple[str, str]:
    """The refusal, if it was one, and what is wrong with how it ended."""
    try:
        read()
    except MbcompressError as error:
        message = str(error)
        if not message.isprintable() or not message.strip() or len(message) > LONGEST:
            return message, f"no sentence: {message[:LONGEST]!r}"
        return message, ""
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "", "".join(traceback.format_exception(error))[-3000:]
    return "", ""
