"""Checks what passes require, provide and destroy along the chain, and proposes an order that works."""

from collections.abc import Sequence

from mbcompress.contract.passes import Pass
from mbcompress.contract.traits import INITIAL, Trait
from mbcompress.errors import SpecError

LONGEST_REORDERED = 8  # the search is exhaustive


def check_order(passes: Sequence[Pass]) -> None:
    """Raise SpecError at the first pass that lacks what it requires."""
    traits: frozenset[Trait] = INITIAL
    for index, step in enumerate(passes):
        if missing := step.requires - traits:
            raise SpecError(("passes", index), _explain(passes, index, sorted(missing)), at_key=True)
        traits = _after(traits, step)


def _after(traits: frozenset[Trait], step: Pass) -> frozenset[Trait]:
    return (traits - step.destroys) | step.provides


def _explain(passes: Sequence[Pass], index: int, missing: Sequence[Trait]) -> str:
    step = passes[index]
    wanted = " and ".join(repr(str(trait)) for trait in missing)
    culprit = next((p.name for p in reversed(passes[:index]) if p.destroys & set(missing)), None)
    reason = f"after {culprit!r} it no longer is" if culprit else "nothing before makes it so"
    return f"{step.name!r} needs a model that is {wanted}, but {reason}{_advice(passes)}"


def _advice(passes: Sequence[Pass]) -> str:
    if len(passes) > LONGEST_REORDERED:
        return ""
    order = _workable_order(list(passes), INITIAL)
    if order is None:
        return "; no order of these passes works, so remove one"
    return f"; an order that works: {', '.join(step.name for step in order)}"


def _workable_order(remaining: list[Pass], traits: frozenset[Trait]) -> list[Pass] | None:
    """The first workable order in the recipe's own sequence of preference, or None."""
    if not remaining:
        return []
    tried: set[str] = set()
    for index, step in enumerate(remaining):
        if step.requires <= traits and step.name not in tried:
            tried.add(step.name)
            rest = _workable_order(remaining[:index] + remaining[index + 1 :], _after(traits, step))
            if rest is not None:
                return [step, *rest]
    return None
