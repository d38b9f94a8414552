"""Which checks there are for which kind of component, and how a plugin is found by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from mbcompress.components import Component, Dataset, Metric, ModelSource, Pass, Runtime
from mbcompress.conformance.discovery import check_discovery
from mbcompress.conformance.options import Subject, check_defaults, check_descriptions, check_round_trip, check_schema
from mbcompress.conformance.verdict import Skipped, Verdict, judge
from mbcompress.errors import MbcompressError, unknown
from mbcompress.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mbcompress.catalogue import Catalogue, Origin

ARCHITECTURES = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small")


def check_plugin(
    name: str, catalogue: Catalogue, options: Mapping[str, Any] | None = None, progress: Progress | None = None
) -> list[Verdict]:
    """Check everything that a plugin offers.

    Args:
        name: of a plugin, of a distribution, or of one component, which alone is checked then.
        options: to try components with, in place of their examples.

    Raises:
        MbcompressError: nothing that is installed has this name, or it is blocked.
    """
    progress = progress or Progress()
    components = [
        (cls, registry.kind, origin)
        for registry in catalogue.registries
        for cls, origin in registry
        if _means(name, origin) or cls.name == name
    ]
    broken = [each for each in catalogue.broken if _means(name, each.origin)]
    loaded = [origin for origin in catalogue.plugins if _means(name, origin)]
    if not (components or broken or loaded):
        raise MbcompressError(_unknown(name, catalogue))
    verdicts = [Verdict(str(each.origin), "loads", "failed", (each.reason,)) for each in broken]
    for origin in dict.fromkeys([*loaded, *(origin for _, _, origin in components)]):
        verdicts += judge(str(origin), {"imports no torch": lambda o=origin: check_discovery(o, catalogue)})  # type: ignore[misc]
    for cls, kind, _ in components:
        with progress.busy(f"check {kind} {cls.name}"):
            verdicts += check_component(cls, catalogue, None if options is None else [options], kind=kind)
    return verdicts


def check_component(
    cls: type[Component],
    catalogue: Catalogue,
    examples: Sequence[Mapping[str, Any]] | None = None,
    *,
    kind: str = "component",
    architectures: Sequence[str] = ARCHITECTURES,
) -> list[Verdict]:
    """Check one class, installed or not.

    Args:
        catalogue: where the models it is tried on and the runtime come from.
        examples: options to try it with, in place of the class's own.
        kind: what messages call it.
        architectures: model sources that a pass is tried on.
    """
    subject = Subject(cls, kind, catalogue, examples)
    verdicts = judge(
        subject.label,
        {
            "descriptions": lambda: check_descriptions(subject),
            "defaults": lambda: check_defaults(subject),
            "schema": lambda: check_schema(subject),
            "round trip": lambda: check_round_trip(subject),
        },
    )
    try:
        verdicts += _check_behaviour(subject, architectures)
    except Skipped as reason:
        verdicts.append(Verdict(subject.label, "behaviour", "skipped", (str(reason),)))
    return verdicts


def _check_behaviour(subject: Subject, architectures: Sequence[str]) -> Iterator[Verdict]:
    """What running it shows; these modules import torch."""
    if issubclass(subject.cls, Pass):
        from mbcompress.conformance.passes import check_pass

        yield from check_pass(subject, architectures)
    elif issubclass(subject.cls, ModelSource):
        from mbcompress.conformance.sources import check_source

        yield from check_source(subject)
    elif issubclass(subject.cls, Dataset):
        from mbcompress.conformance.datasets import check_dataset

        yield from check_dataset(subject)
    elif issubclass(subject.cls, Runtime):
        from mbcompress.conformance.runtimes import check_runtime

        yield from check_runtime(subject)
    elif issubclass(subject.cls, Metric):
        from mbcompress.conformance.metrics import check_metric

        yield from check_metric(subject)


def _means(name: str, origin: Origin) -> bool:
    return canonicalize_name(name) in {canonicalize_name(origin.plugin), canonicalize_name(origin.distribution)}


def _unknown(name: str, catalogue: Catalogue) -> str:
    for origin in catalogue.blocked:
        if _means(name, origin):
            return f"{origin} is blocked, so it cannot be checked"
    names = {name for registry in catalogue.registries for name in registry.classes}
    names |= {word for origin in catalogue.plugins for word in (origin.plugin, origin.distribution)}
    return unknown("plugin", name, names)
