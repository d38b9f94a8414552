"""Check a recipe as a whole: order of passes, runtimes, teachers, and data leakage between splits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mbcompress.contract.models import ModelSource
from mbcompress.contract.passes import Pass, traits_after
from mbcompress.contract.teachers import teachers_in
from mbcompress.contract.traits import INITIAL, Trait
from mbcompress.errors import PathPart, SpecError, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mbcompress.contract.datasets import Dataset
    from mbcompress.contract.options import Component
    from mbcompress.data.splits import Splits
    from mbcompress.recipe.model import Recipe
    from mbcompress.registry.registry import Registry

LONGEST_REORDERED = 8  # the search is exhaustive
SPLIT_OPTIONS = (
    ("test", "equal", "test"),
    ("split_seed", "equal", "test or validation"),
    ("validation", "most", "validation"),
)
"""Dataset options that decide which images are not trained on: how they must compare to those of an earlier training,
and which images would leak otherwise. A smaller validation split is a subset of a larger one."""


def check(recipe: Recipe, registry: Registry) -> None:
    """Raise SpecError at the first error that involves more than one value."""
    check_order(recipe.passes)
    _check_installed(recipe, registry)
    _check_unique("export", recipe.export, "each runtime writes one file")
    _check_unique("metrics", recipe.metrics, "a report lists each metric once")
    _check_runtimes(recipe)
    _check_splits(recipe)
    _check_teachers(recipe)
    limit, after = len(recipe.passes), recipe.measure.baseline_after
    if after > limit:
        problem = f"must be at most the number of passes, {limit}, got {after}"
        raise SpecError(("measure", "baseline_after"), problem)


def check_order(passes: Sequence[Pass]) -> None:
    """Raise SpecError at the first pass that lacks a required trait, and suggest a valid order."""
    traits: frozenset[Trait] = INITIAL
    for index, pass_ in enumerate(passes):
        if missing := pass_.requires - traits:
            raise SpecError(("passes", index), _order_problem(passes, index, sorted(missing)), at_key=True)
        traits = traits_after(traits, pass_)


def leakage_warnings(recipe: Recipe, splits: Splits) -> Iterator[str]:
    """Yield a warning for each set of weights trained on different images, or on the same images in another order.

    Compares fingerprints only if the split options are equal, because different splits always have different
    fingerprints.
    """
    if recipe.data is None:
        return
    options, fingerprint = recipe.data.as_written(), None
    for weights, trained_on in _trainings(recipe):
        same = trained_on.get("name") == recipe.data.name and all(
            options.get(option) == trained_on.get(option) for option in ("validation", "calibration")
        )
        if same and "sha256" in trained_on:
            fingerprint = fingerprint or splits.fingerprint()
            if fingerprint != trained_on["sha256"]:
                yield (
                    f"data: these images, or their order, differ from those that {weights} were trained on; the "
                    "validation split may contain training images, and validation accuracy may be too high"
                )


def _order_problem(passes: Sequence[Pass], index: int, missing: Sequence[Trait]) -> str:
    pass_ = passes[index]
    wanted = " and ".join(repr(str(trait)) for trait in missing)
    culprit = next((p.name for p in reversed(passes[:index]) if p.destroys & set(missing)), None)
    reason = f"after {culprit!r} it no longer is" if culprit else "nothing before makes it so"
    return f"{pass_.name!r} needs a model that is {wanted}, but {reason}{_advice(passes)}"


def _advice(passes: Sequence[Pass]) -> str:
    if len(passes) > LONGEST_REORDERED:
        return ""
    order = _workable_order(list(passes), INITIAL)
    if order is None:
        return "; no order of these passes works, so remove one"
    return f"; an order that works: {', '.join(pass_.name for pass_ in order)}"


def _workable_order(remaining: list[Pass], traits: frozenset[Trait]) -> list[Pass] | None:
    """Return the first valid order, trying passes in the recipe's order; None if there is none."""
    if not remaining:
        return []
    tried: set[str] = set()
    for index, pass_ in enumerate(remaining):
        if pass_.requires <= traits and pass_.name not in tried:
            tried.add(pass_.name)
            rest = _workable_order(remaining[:index] + remaining[index + 1 :], traits_after(traits, pass_))
            if rest is not None:
                return [pass_, *rest]
    return None


def _check_installed(recipe: Recipe, registry: Registry) -> None:
    if not recipe.export:
        raise SpecError(("export",), f"must name a runtime (known: {', '.join(sorted(registry.runtimes.classes))})")
    for index, runtime in enumerate(recipe.export):
        if registry.runtimes.origin_of(runtime) is None:
            problem = f"{type(runtime).__name__} is not an installed runtime"
            raise SpecError(("export", index), f"{problem}; the process that measures its files could not import it")


def _check_unique(key: str, components: Sequence[Component], reason: str) -> None:
    names = [component.name for component in components]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise SpecError((key, index), f"{name!r} is named twice; {reason}")


def _check_runtimes(recipe: Recipe) -> None:
    """Reject passes whose result cannot run in one of the recipe's runtimes."""
    for index, pass_ in enumerate(recipe.passes):
        for runtime in recipe.export:
            if pass_.runs_in is not None and runtime.name not in pass_.runs_in:
                able = " or ".join(repr(name) for name in sorted(pass_.runs_in))
                problem = f"returns a model that only {able} can run, and the recipe exports for {runtime.name!r}"
                advice = f"set 'export: [{sorted(pass_.runs_in)[0]}]'"
                raise SpecError(("passes", index, pass_.name), f"{problem}; {advice}", at_key=True)


def _check_teachers(recipe: Recipe) -> None:
    """Reject teachers with random weights, or that do not fit the model's images and classes."""
    model = recipe.model
    for index, pass_ in enumerate(recipe.passes):
        for option, teacher in teachers_in(pass_):
            path = ("passes", index, pass_.name, *option)
            if isinstance(teacher, ModelSource):
                _check_teacher(path, teacher, model)
            elif model is not None and not model.pretrained and not 0 < recipe.measure.baseline_after <= index:
                raise SpecError(
                    path,
                    "'baseline' is the model as loaded, which has random weights here; give the model "
                    "'weights', or train it first and set measure.baseline_after to 1, or choose another teacher",
                )


def _check_teacher(path: tuple[PathPart, ...], teacher: ModelSource, model: ModelSource | None) -> None:
    if not teacher.pretrained:
        raise SpecError(path, "this teacher has random weights; give it 'weights'")
    if model is None:
        return
    shapes = ("x".join(map(str, source.input_shape)) for source in (teacher, model))
    for noun, of_teacher, of_model in (
        ("images of", *shapes),
        ("a number of classes of", teacher.num_classes, model.num_classes),
    ):
        if of_teacher != of_model:
            raise SpecError(path, f"this teacher has {noun} {of_teacher}, the model {of_model}; they must be the same")


def _check_splits(recipe: Recipe) -> None:
    """Reject test or validation splits with images that any of the recipe's weights were trained on."""
    if recipe.data is not None:
        for weights, trained_on in _trainings(recipe):
            if trained_on.get("name") == recipe.data.name:
                _check_split_options(weights, trained_on, recipe.data)


def _check_split_options(weights: str, trained_on: Mapping[str, Any], dataset: Dataset) -> None:
    options = dataset.as_written()
    for option, limit, kind in SPLIT_OPTIONS:
        if option not in options or option not in trained_on:
            continue
        here, there = options[option], trained_on[option]
        if here != there and (limit == "equal" or here > there):
            raise SpecError(
                ("data", option),
                f"must be {'' if limit == 'equal' else 'at most '}{shown(there)} as when {weights} were trained, got "
                f"{shown(here)}; otherwise {kind} images would have been trained on",
            )


def _trainings(recipe: Recipe) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a description of each set of weights in the recipe, with its training data if known."""
    sources = [("the model's weights", recipe.model)] if recipe.model is not None else []
    for pass_ in recipe.passes:
        sources += [
            (f"the weights of the teacher in {pass_.name!r}", teacher)
            for _, teacher in teachers_in(pass_)
            if isinstance(teacher, ModelSource)
        ]
    for weights, source in sources:
        if source.trained_on is not None:
            yield weights, source.trained_on
