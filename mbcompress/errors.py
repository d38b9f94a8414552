"""Errors that the user can mend: each is one sentence that says where, what was found and what would be right.

Anything else that is raised is a bug of ours or of a plugin's, and keeps its traceback.
"""

import difflib
import errno
import json
import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PathPart = str | int
PLAIN = re.compile(r"[^\s.\[\]:'\"]+")
LONGEST_SHOWN = 100
MEMORY_ADVICE = "lower 'batch_size', or close other programs"


class MbcompressError(Exception):
    """Bad input, in a sentence for the person who gave it. The command line prints it and exits with 2."""


LIMITS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Errors of the system that nobody's code can avoid: no room, a file too large, a read-only disk."""


@contextmanager
def system_limits() -> Iterator[None]:
    """What the system refuses while the block runs is one sentence, whoever met it.

    Raises:
        MbcompressError: no room is left, on a disk or in memory.
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
    """Whether Python, NumPy or torch say that memory is short; torch has no class for it on the CPU."""
    short = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return short or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM has arrived; `signal` is its number."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.signal = number


class TrainingDivergedError(MbcompressError):
    """The loss became NaN or infinite."""


class ProcessLostError(MbcompressError):
    """Another process of the run has ended, and with it the run."""


class PassError(Exception):
    """A pass has broken its contract: the bug is its plugin's, which the message names with the recipe's line."""


class MetricError(PassError):
    """A metric has broken its contract, in the same way."""


@dataclass(frozen=True)
class Location:
    """A place in a recipe: a file with line and column (both from 1), or an override given on the command line."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.source, self.line, self.column) if part is not None)


class SpecError(MbcompressError, ValueError):
    """Something is wrong at `path` inside a specification; the reader of that specification adds the location.

    A ValueError, so that pydantic adds where the specification stands in options that hold it.
    """

    def __init__(self, path: tuple[PathPart, ...], problem: str, *, at_key: bool = False) -> None:
        super().__init__(f"{dotted(path)}: {problem}" if path else problem)
        self.path = path
        self.problem = problem
        self.at_key = at_key

    def under(self, *prefix: PathPart) -> "SpecError":
        """The same problem, seen from an enclosing specification."""
        return SpecError((*prefix, *self.path), self.problem, at_key=self.at_key)


class RecipeError(MbcompressError):
    """A recipe that cannot run, with the place that is to be mended."""

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
    """A value on one line and of bounded length, with `null` and `true` as YAML writes them."""
    try:
        text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or thousands of levels
        return "something too large to show"
    return brief(text)


def brief(text: str, longest: int = LONGEST_SHOWN) -> str:
    """Text on one line and of bounded length, without what a terminal would take for a command."""
    text = "".join(each if each.isprintable() else "\ufffd" for each in " ".join(text.split()))
    return text if len(text) <= longest else f"{text[:longest]}…"


def first_line(error: BaseException) -> str:
    """What a library's error says, cut to the line that fits into a sentence of ours."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def unknown(what: str, found: object, allowed: Iterable[str], hint: str = "") -> str:
    """'unknown pass 'prnue'; did you mean 'prune'? (known: distill, prune)'; `hint` replaces the guess."""
    choices = sorted(set(allowed))
    folded = {choice.casefold(): choice for choice in choices}
    near = difflib.get_close_matches(found.casefold(), folded, n=1, cutoff=0.5) if isinstance(found, str) else ()
    if near and not hint:
        hint = f"did you mean {folded[near[0]]!r}?"
    return f"unknown {what} {shown(found)}{f'; {hint}' if hint else ''} (known: {', '.join(choices) or 'none'})"
