"""The result of a check, and how checks run."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbcompress.errors import brief

Checks = Mapping[str, Callable[[], Iterable[str]]]
"""Checks by name; a check yields a sentence for each thing to change."""


class Skipped(Exception):  # noqa: N818  # not an error
    """Raised by a check that cannot run; the message says why."""


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        subject: what was checked, such as "pass 'halve' on mobilenet_v2".
        check: name of the check.
        outcome: 'passed', 'failed' or 'skipped'.
        problems: what to change, or why the check was skipped.
    """

    subject: str
    check: str
    outcome: str
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing has to change; skipped checks count as passed."""
        return self.outcome != "failed"

    def __str__(self) -> str:
        return f"{self.subject}: {self.check}: {'; '.join(self.problems) or self.outcome}"

    def to_mapping(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {**vars(self), "problems": list(self.problems)}


def run_checks(subject: str, checks: Checks) -> list[CheckResult]:
    """Run the checks in order; an exception of the plugin's code is a failed check."""
    return [_run(subject, name, check) for name, check in checks.items()]


def _run(subject: str, name: str, check: Callable[[], Iterable[str]]) -> CheckResult:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of libraries would fail checks under -W error
            problems = tuple(check())
    except Skipped as reason:
        return CheckResult(subject, name, "skipped", (str(reason),))
    except (Exception, SystemExit) as error:  # a plugin's code may raise anything
        problems = (raised(error),)
    return CheckResult(subject, name, "failed" if problems else "passed", problems)


def raised(error: BaseException) -> str:
    """An exception as one sentence, with the line of code that raised it."""
    cause = error.__cause__ or error
    frames = traceback.extract_tb(cause.__traceback__)[-1:]
    place = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in frames)
    return f"raised {type(cause).__name__}: {brief(str(cause))}{place}"
