"""Errors that the user can fix. Each message is one sentence: where, what was found, and what is expected.

Any other exception is a bug in mbcompress or a plugin, and keeps its traceback.
"""

import difflib
import errno
import json
import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = [
    "MbcompressError",
    "PassError",
    "RecipeError",
    "SpecError",
    "TrainingDivergedError",
    "brief",
    "first_line",
    "shown",
    "unknown",
]

PathPart = str | int
PLAIN = re.compile(r"[^\s.\[\]:'\"]+")
LONGEST_SHOWN = 100
MEMORY_ADVICE = "lower 'batch_size', or close other programs"


class MbcompressError(Exception):
    """Bad input, described in one sentence. The command line prints it and exits with code 2."""


LIMITS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Operating-system errors that are not bugs: no space left, file too large, read-only file system."""


@contextmanager
def system_limits() -> Iterator[None]:
    """Turn system errors raised in the block into an `MbcompressError`.

    Raises:
        MbcompressError: the disk is full or cannot be written, or memory ran out.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in LIMITS:
            raise
        raise MbcompressError(f"{error.filename or 'a file'}: cannot be written: {error.strerror}") from error
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise MbcompressError(f"out of memory ({first_line(error)}); {MEMORY_ADVICE}") from error


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy or torch ran out of memory; torch has no exception class for this on the CPU."""
    short = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return short or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM was received; `signal` is its number."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.signal = number


class TrainingDivergedError(MbcompressError):
    """The loss became NaN or infinite."""


class ProcessLostError(MbcompressError):
    """Another process of the run has exited, which ends the run."""


class PassError(Exception):
    """A pass violates its contract: a bug in its plugin. The message names the plugin and the recipe's line."""


class MetricError(PassError):
    """A metric violates its contract: a bug in its plugin."""


@dataclass(frozen=True)
class Location:
    """A place in a recipe: a file with line and column (both 1-based), or an override on the command line."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.source, self.line, self.column) if part is not None)


class SpecError(MbcompressError, ValueError):
    """An invalid value at `path` inside a specification; the code that reads the specification adds the location.

    A ValueError, so that pydantic prepends the path of the enclosing options.
    """

    def __init__(self, path: tuple[PathPart, ...], problem: str, *, at_key: bool = False) -> None:
        super().__init__(f"{dotted(path)}: {problem}" if path else problem)
        self.path = path
        self.problem = problem
        self.at_key = at_key

    def under(self, *prefix: PathPart) -> "SpecError":
        """Return the same error with `prefix` prepended to its path."""
        return SpecError((*prefix, *self.path), self.problem, at_key=self.at_key)


class RecipeError(MbcompressError):
    """A recipe that cannot run, with the location of the error."""

    def __init__(self, location: Location, problem: str) -> None:
        super().__init__(f"{location}: {problem}")
        self.location = location
        self.problem = problem


def dotted(path: Iterable[PathPart]) -> str:
    """('passes', 1, 'prune') -> 'passes[1].prune'."""
    text = ""
    for part in path:
        plain = isinstance(part, str) and PLAIN.fullmatch(part) and part.isprintable() and len(part) <= LONGEST_SHOWN
        text += f"[{shown(part)}]" if not plain else f".{part}" if text else str(part)
    return text


def shown(value: object) -> str:
    """Format a value on one line of bounded length, with `null`, `true` and `false` as in YAML."""
    try:
        text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    except (ValueError, RecursionError):  # integers with thousands of digits, or very deep nesting
        return "something too large to show"
    return brief(text)


def brief(text: str, longest: int = LONGEST_SHOWN) -> str:
    """Shorten text to one line of bounded length; control characters become U+FFFD."""
    text = "".join(each if each.isprintable() else "\ufffd" for each in " ".join(text.split()))
    return text if len(text) <= longest else f"{text[:longest]}…"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class name if the message is empty."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def unknown(what: str, found: object, allowed: Iterable[str], hint: str = "") -> str:
    """'unknown pass 'prnue'; did you mean 'prune'? (known: distill, prune)'; `hint` replaces the guess."""
    choices = sorted(set(allowed))
    folded = {choice.casefold(): choice for choice in choices}
    near = difflib.get_close_matches(found.casefold(), folded, n=1, cutoff=0.5) if isinstance(found, str) else ()
    if near and not hint:
        hint = f"did you mean {folded[near[0]]!r}?"
    return f"unknown {what} {shown(found)}{f'; {hint}' if hint else ''} (known: {', '.join(choices) or 'none'})"
