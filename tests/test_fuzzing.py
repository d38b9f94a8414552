"""A few hundred damaged inputs of each kind; `make fuzz` tries the thousands that the project promises."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fuzzing.suites import SUITES
from fuzzing.supervision import SEEDS
from fuzzing.trial import Trial, ready

from mbcompress.errors import MbcompressError
from mbcompress.testing.writes import watched

CASES = {"recipes": 300, "weights": 250, "images": 250}


@pytest.mark.filterwarnings("ignore")  # of what makes the damaged files
@pytest.mark.parametrize("suite", SUITES)
def test_success_or_a_sentence(suite: str) -> None:
    with ready(suite, SEEDS[0]) as trial:
        outcomes = [trial.attempt(number) for number in range(CASES[suite])]
    assert [outcome for outcome in outcomes if outcome.failure] == []
    assert {outcome.refused for outcome in outcomes} == {True, False}


def test_a_case_is_repeated_exactly() -> None:
    for _ in range(2):
        with ready("recipes", SEEDS[0]) as trial:
            first, again = trial.attempt(7), trial.attempt(7)
        assert (first.target, first.refused) == (again.target, again.refused)


class Sham:
    """A target that does what it is told."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self.read = read

    def prepare(self, random: Random, folder: Path) -> Callable[[], Any]:
        return self.read


def refuse(message: str) -> None:
    raise MbcompressError(message)


@pytest.mark.parametrize(
    ("read", "failure"),
    [
        (lambda: None, ""),
        (lambda: refuse("x.yaml: is not a recipe"), ""),
        (lambda: refuse("two\nlines"), "no sentence: 'two"),
        (lambda: refuse("x" * 9000), "no sentence: 'xxx"),
        (lambda: {}["x"], "KeyError: 'x'"),
        (lambda: Path("payload").touch(), "wrote "),
        (lambda: (Path.home() / "payload").touch(), "wrote "),
    ],
    ids=["success", "sentence", "lines", "long", "exception", "written", "home"],
)
def test_what_counts_as_failure(read: Callable[[], Any], failure: str) -> None:
    with watched() as touched:
        outcome = Trial("sham", 0, [(1, Sham(read))], touched).attempt(0)
    assert failure in outcome.failure
    assert bool(outcome.failure) == bool(failure)
