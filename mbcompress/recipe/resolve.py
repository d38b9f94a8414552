"""From a document to a plan: every mistake of a recipe dies here, before torch is imported."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from mbcompress.contract.options import Component, Options
from mbcompress.contract.validation import first_problem
from mbcompress.errors import PathPart, RecipeError, SpecError, shown, unknown
from mbcompress.recipe.order import check_order
from mbcompress.recipe.plan import Budget, Measure, Plan
from mbcompress.recipe.provenance import check_splits, check_teachers

if TYPE_CHECKING:
    from mbcompress.contract.datasets import Dataset
    from mbcompress.contract.metrics import Metric
    from mbcompress.contract.models import ModelSource
    from mbcompress.contract.passes import Pass
    from mbcompress.contract.runtimes import Runtime
    from mbcompress.recipe.document import Document
    from mbcompress.registry.discovery import Kind, Registry

KEYS = ("model", "data", "passes", "export", "metrics", "measure", "budget", "seed")
MAX_SEED = 2**32 - 1
C = TypeVar("C", bound=Component)
Settings = TypeVar("Settings", bound=Options)


def resolve(document: Document, registry: Registry, given: Collection[str] = ()) -> Plan:
    """Check a recipe and put components in place of names.

    Args:
        document: the recipe.
        registry: what it can name.
        given: 'model' or 'data' where the caller hands those over itself; the recipe may then leave them out.

    Raises:
        RecipeError: the first mistake, with its place.
    """
    try:
        return _resolve(document, registry, given)
    except SpecError as error:
        raise RecipeError(document.locate(error.path, at_key=error.at_key), str(error)) from None


def _resolve(document: Document, registry: Registry, given: Collection[str]) -> Plan:
    data = document.data
    for key in data:
        if key not in KEYS:
            raise SpecError((key,), unknown("key", key, KEYS), at_key=True)
    for key in ("model", "data", "passes"):
        if key not in data and key not in given:
            raise SpecError((), f"{key!r} is missing; a recipe needs 'model', 'data' and 'passes'")
    model = _under("model", lambda spec: _model(spec, registry), data)
    dataset = _under("data", lambda spec: _dataset(spec, registry), data)
    passes = _components(document, "passes", registry.passes, registry)
    check_order(passes)
    plan = Plan(
        name=document.name,
        model=model,
        data=dataset,
        passes=tuple(passes),
        export=_runtimes(document, registry),
        metrics=_metrics(document, registry),
        measure=_options(Measure, data.get("measure"), "measure"),
        budget=_options(Budget, data.get("budget"), "budget"),
        seed=_seed(data.get("seed", 0)),
        locations=tuple(
            document.locate(("passes", index, step.name), at_key=True) for index, step in enumerate(passes)
        ),
    )
    _check_runtimes(passes, plan.export)
    check_splits(model, passes, dataset)
    check_teachers(model, passes, plan.measure.baseline_after)
    if plan.measure.baseline_after > len(passes):
        found = f"got {shown(plan.measure.baseline_after)}"
        raise SpecError(("measure", "baseline_after"), f"must be at most the number of passes, {len(passes)}, {found}")
    return plan


def _runtimes(document: Document, registry: Registry) -> tuple[Runtime, ...]:
    runtimes = _components(document, "export", registry.runtimes, registry, default=["onnx"])
    for index, runtime in enumerate(runtimes):
        if registry.runtimes.origin_of(runtime) is None:
            found = f"{type(runtime).__name__} is not an installed runtime"
            raise SpecError(("export", index), f"{found}, and the process that measures its files could not find it")
    if not runtimes:
        raise SpecError(("export",), f"must name a runtime (known: {', '.join(sorted(registry.runtimes.classes))})")
    _refuse_twice("export", runtimes, "each runtime writes one file")
    return tuple(runtimes)


def _check_runtimes(passes: Sequence[Pass], runtimes: Sequence[Runtime]) -> None:
    """Refuse a pass whose result a runtime of the recipe cannot execute."""
    for index, step in enumerate(passes):
        for runtime in runtimes:
            if step.runs_in is not None and runtime.name not in step.runs_in:
                able = " or ".join(repr(name) for name in sorted(step.runs_in))
                problem = f"gives a model that only {able} can execute, and the recipe exports for {runtime.name!r}"
                advice = f"set 'export: [{sorted(step.runs_in)[0]}]'"
                raise SpecError(("passes", index, step.name), f"{problem}; {advice}", at_key=True)


def _metrics(document: Document, registry: Registry) -> tuple[Metric, ...]:
    metrics = _components(document, "metrics", registry.metrics, registry, default=[])
    _refuse_twice("metrics", metrics, "a report lists each metric once")
    return tuple(metrics)


def _refuse_twice(key: str, components: Sequence[Component], reason: str) -> None:
    names = [component.name for component in components]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise SpecError((key, index), f"{name!r} is named twice; {reason}")


def _under(key: str, build: Any, data: Mapping[str, Any]) -> Any:
    if key not in data:
        return None
    try:
        return build(data[key])
    except SpecError as error:
        raise error.under(key) from None


def _model(spec: object, registry: Registry) -> ModelSource:
    if isinstance(spec, Component):
        return registry.models.adopt(spec)
    return registry.build_model(_mapping(spec, "{source: NAME, …}"))


def _dataset(spec: object, registry: Registry) -> Dataset:
    if isinstance(spec, Component):
        return registry.datasets.adopt(spec)
    return registry.build_dataset(_mapping(spec, "{name: NAME, …}"))


def _mapping(spec: object, form: str) -> Mapping[str, Any]:
    if not isinstance(spec, Mapping):
        raise SpecError((), f"must be a mapping like {form}, got {shown(spec)}")
    return spec


def _components(
    document: Document, key: str, kind: Kind[C], registry: Registry, default: list[str] | None = None
) -> list[C]:
    entries = document.data.get(key, default)
    if not isinstance(entries, list):
        raise SpecError((key,), f"must be a list, got {shown(entries)}")
    return [_component(entry, (key, index), kind, registry) for index, entry in enumerate(entries)]


def _component(entry: Any, path: tuple[PathPart, ...], kind: Kind[C], registry: Registry) -> C:
    if isinstance(entry, Component):
        try:
            return kind.adopt(entry)
        except SpecError as error:
            raise error.under(*path) from None
    if isinstance(entry, str):
        entry = {entry: {}}
    if not (isinstance(entry, Mapping) and len(entry) == 1):
        form = f"must be one {kind.name}, as 'name' or 'name: {{option: value}}'"
        raise SpecError(path, f"{form}, got {shown(entry)}")
    ((name, options),) = entry.items()
    try:
        return kind.build(name, options, registry)
    except SpecError as error:
        raise error.under(*path, name) from None


def _options(cls: type[Settings], spec: object, key: str) -> Settings:
    try:
        return cls.model_validate(dict(_mapping({} if spec is None else spec, "{option: value}")))
    except ValidationError as error:
        raise first_problem(error, cls).under(key) from None
    except SpecError as error:
        raise error.under(key) from None


def _seed(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEED:
        raise SpecError(("seed",), f"must be a whole number from 0 to {MAX_SEED}, got {shown(value)}")
    return value
