"""What a check found."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbcompress.errors import brief

Checks = Mapping[str, Callable[[], Iterable[str]]]
"""Checks by name; each gives a sentence for each thing that must change."""


class Skipped(Exception):  # noqa: N818  # nothing is wrong
    """A check cannot be made, and why."""


@dataclass(frozen=True)
class Verdict:
    """One check of one thing.

    Attributes:
        subject: what was checked, as "pass 'halve' on mobilenet_v2".
        check: which of the rules.
        outcome: 'passed', 'failed' or 'skipped'.
        problems: what to change, or why the check was skipped.
    """

    subject: str
    check: str
    outcome: str
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing has to change."""
        return self.outcome != "failed"

    def __str__(self) -> str:
        return f"{self.subject}: {self.check}: {'; '.join(self.problems) or self.outcome}"

    def to_mapping(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "problems": list(self.problems)}


def judge(subject: str, checks: Checks) -> list[Verdict]:
    """Make the checks in their order; what a check of the plugin's code raises is its finding."""
    return [_judge(subject, name, check) for name, check in checks.items()]


def _judge(subject: str, name: str, check: Callable[[], Iterable[str]]) -> Verdict:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # libraries' own; in a test session with -W error they would be findings
            problems = tuple(check())
    except Skipped as reason:
        return Verdict(subject, name, "skipped", (str(reason),))
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        problems = (raised(error),)
    return Verdict(subject, name, "failed" if problems else "passed", problems)


def raised(error: BaseException) -> str:
    """An exception of the plugin's in a sentence, with the line of code that raised it."""
    cause = error.__cause__ or error
    frame = traceback.extract_tb(cause.__traceback__)[-1:]
    place = "".join(f" ({Path(each.filename).name}, line {each.lineno})" for each in frame)
    return f"raised {type(cause).__name__}: {brief(str(cause))}{place}"
