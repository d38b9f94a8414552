"""Entry points of the kit: check a plugin by name, or one component."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from mbcompress.contract.datasets import Dataset
from mbcompress.contract.metrics import Metric
from mbcompress.contract.models import ModelSource
from mbcompress.contract.passes import Pass
from mbcompress.contract.progress import Progress
from mbcompress.contract.runtimes import Runtime
from mbcompress.errors import MbcompressError, unknown
from mbcompress.testing.imports import check_imports
from mbcompress.testing.options import Subject, check_defaults, check_descriptions, check_round_trip, check_schema
from mbcompress.testing.result import CheckResult, Skipped, run_checks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mbcompress.contract.options import Component
    from mbcompress.registry.registry import Origin, Registry

ARCHITECTURES = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small")


def check_plugin(
    name: str, registry: Registry, options: Mapping[str, Any] | None = None, progress: Progress | None = None
) -> list[CheckResult]:
    """Check all components of a plugin.

    Args:
        name: a plugin, a distribution, or a component, which is then the only one checked.
        options: used instead of the examples of the components.

    Raises:
        MbcompressError: nothing installed has this name, or it is blocked.
    """
    progress = progress or Progress()
    components = [
        (cls, kind.name, origin)
        for kind in registry.kinds
        for cls, origin in kind
        if _means(name, origin) or cls.name == name
    ]
    broken = [plugin for plugin in registry.broken if _means(name, plugin.origin)]
    loaded = [origin for origin in registry.plugins if _means(name, origin)]
    if not (components or broken or loaded):
        raise MbcompressError(_unknown(name, registry))
    results = [CheckResult(str(plugin.origin), "loads", "failed", (plugin.reason,)) for plugin in broken]
    for origin in dict.fromkeys([*loaded, *(origin for _, _, origin in components)]):
        results += run_checks(str(origin), {"imports no torch": lambda o=origin: check_imports(o, registry)})  # type: ignore[misc]
    for cls, kind, _ in components:
        with progress.busy(f"check {kind} {cls.name}"):
            results += check_component(cls, registry, None if options is None else [options], kind=kind)
    return results


def check_component(
    cls: type[Component],
    registry: Registry,
    examples: Sequence[Mapping[str, Any]] | None = None,
    *,
    kind: str = "component",
    architectures: Sequence[str] = ARCHITECTURES,
) -> list[CheckResult]:
    """Check one class, installed or not.

    Args:
        cls: the component.
        registry: provides the test models and the runtime.
        examples: options used instead of the class's examples.
        kind: kind of component, for messages.
        architectures: model sources that a pass is tested on.
    """
    subject = Subject(cls, kind, registry, examples)
    results = run_checks(
        subject.label,
        {
            "descriptions": lambda: check_descriptions(subject),
            "defaults": lambda: check_defaults(subject),
            "schema": lambda: check_schema(subject),
            "round trip": lambda: check_round_trip(subject),
        },
    )
    try:
        results += _check_behavior(subject, architectures)
    except Skipped as reason:
        results.append(CheckResult(subject.label, "behavior", "skipped", (str(reason),)))
    return results


def _check_behavior(subject: Subject, architectures: Sequence[str]) -> Iterator[CheckResult]:
    """Run the component; the modules imported here import torch."""
    if issubclass(subject.cls, Pass):
        from mbcompress.testing.passes import check_pass

        yield from check_pass(subject, architectures)
    elif issubclass(subject.cls, ModelSource):
        from mbcompress.testing.sources import check_source

        yield from check_source(subject)
    elif issubclass(subject.cls, Dataset):
        from mbcompress.testing.datasets import check_dataset

        yield from check_dataset(subject)
    elif issubclass(subject.cls, Runtime):
        from mbcompress.testing.runtimes import check_runtime

        yield from check_runtime(subject)
    elif issubclass(subject.cls, Metric):
        from mbcompress.testing.metrics import check_metric

        yield from check_metric(subject)


def _means(name: str, origin: Origin) -> bool:
    return canonicalize_name(name) in {canonicalize_name(origin.plugin), canonicalize_name(origin.distribution)}


def _unknown(name: str, registry: Registry) -> str:
    for origin in registry.blocked:
        if _means(name, origin):
            return f"{origin} is blocked, so it cannot be checked"
    names = {name for kind in registry.kinds for name in kind.classes}
    names |= {word for origin in registry.plugins for word in (origin.plugin, origin.distribution)}
    return unknown("plugin", name, names)
