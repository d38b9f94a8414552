"""Passes in an impossible order are refused, with an order that works if there is one."""

from typing import Any, ClassVar

import pytest

from mbcompress.contract.passes import Pass
from mbcompress.contract.traits import Trait
from mbcompress.errors import SpecError
from mbcompress.recipe.checks import LONGEST_REORDERED, check_order

FLOAT, INT8 = frozenset({Trait.FLOAT}), frozenset({Trait.INT8})


class Shrink(Pass):
    """Float to float."""

    name: ClassVar[str] = "shrink"

    def apply(self, model: Any, context: Any) -> Any:
        return model


class Train(Shrink):
    """Float to float."""

    name: ClassVar[str] = "train"


class Quantize(Shrink):
    """Float to int8."""

    name: ClassVar[str] = "quantize"
    provides: ClassVar[frozenset[Trait]] = INT8
    destroys: ClassVar[frozenset[Trait]] = FLOAT


class Tune(Shrink):
    """Int8 to int8."""

    name: ClassVar[str] = "tune"
    requires: ClassVar[frozenset[Trait]] = INT8


class Restore(Shrink):
    """Int8 to float."""

    name: ClassVar[str] = "restore"
    requires: ClassVar[frozenset[Trait]] = INT8
    provides: ClassVar[frozenset[Trait]] = FLOAT
    destroys: ClassVar[frozenset[Trait]] = INT8


@pytest.mark.parametrize(
    "chain",
    [
        [],
        [Shrink],
        [Shrink, Train, Shrink],
        [Train, Quantize],
        [Quantize, Tune, Tune],
        [Quantize, Restore, Train, Quantize],
    ],
)
def test_possible(chain: list[type[Pass]]) -> None:
    check_order([step() for step in chain])


@pytest.mark.parametrize(
    ("chain", "index", "problem"),
    [
        (
            [Quantize, Shrink],
            1,
            "'shrink' needs a model that is 'float', but after 'quantize' it no longer is; "
            "an order that works: shrink, quantize",
        ),
        (
            [Shrink, Quantize, Train],
            2,
            "'train' needs a model that is 'float', but after 'quantize' it no longer is; "
            "an order that works: shrink, train, quantize",
        ),
        (
            [Tune, Quantize],
            0,
            "'tune' needs a model that is 'int8', but nothing before makes it so; an order that works: quantize, tune",
        ),
        (
            [Tune],
            0,
            "'tune' needs a model that is 'int8', but nothing before makes it so; "
            "no order of these passes works, so remove one",
        ),
        (
            [Quantize, Quantize],
            1,
            "'quantize' needs a model that is 'float', but after 'quantize' it no longer is; "
            "no order of these passes works, so remove one",
        ),
        (
            [Quantize, Quantize, Restore],
            1,
            "'quantize' needs a model that is 'float', but after 'quantize' it no longer is; "
            "an order that works: quantize, restore, quantize",
        ),
    ],
)
def test_impossible(chain: list[type[Pass]], index: int, problem: str) -> None:
    with pytest.raises(SpecError) as failure:
        check_order([step() for step in chain])
    assert failure.value.path == ("passes", index)
    assert failure.value.problem == problem


def test_proposed_orders_work() -> None:
    """The proposed order is a permutation that the check accepts."""
    by_name = {step.name: step for step in (Shrink, Train, Quantize, Tune, Restore)}
    for chain in ([Tune, Restore, Quantize, Quantize], [Restore, Shrink, Quantize, Tune, Train]):
        with pytest.raises(SpecError) as failure:
            check_order([step() for step in chain])
        proposed = failure.value.problem.partition("an order that works: ")[2].split(", ")
        assert sorted(proposed) == sorted(step.name for step in chain)
        check_order([by_name[name]() for name in proposed])


def test_long_chains_are_refused_without_a_search() -> None:
    chain = [Quantize(), *[Shrink()] * LONGEST_REORDERED]
    with pytest.raises(SpecError) as failure:
        check_order(chain)
    assert failure.value.problem.endswith("it no longer is")


def test_a_search_without_a_result_is_quick() -> None:
    """Equal passes are tried once at each position, instead of in all 40,320 orders."""
    with pytest.raises(SpecError, match="no order of these passes works"):
        check_order([Tune() for _ in range(LONGEST_REORDERED)])
