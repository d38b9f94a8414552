"""Which checks there are for which kind of component, and how a plugin is found by name."""

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
from mbcompress.testing.discovery import check_discovery
from mbcompress.testing.options import Subject, check_defaults, check_descriptions, check_round_trip, check_schema
from mbcompress.testing.verdict import Skipped, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mbcompress.contract.options import Component
    from mbcompress.registry.registry import Origin, Registry

ARCHITECTURES = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small")


def check_plugin(
    name: str, registry: Registry, options: Mapping[str, Any] | None = None, progress: Progress | None = None
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
        (cls, kind.name, origin)
        for kind in registry.kinds
        for cls, origin in kind
        if _means(name, origin) or cls.name == name
    ]
    broken = [each for each in registry.broken if _means(name, each.origin)]
    loaded = [origin for origin in registry.plugins if _means(name, origin)]
    if not (components or broken or loaded):
        raise MbcompressError(_unknown(name, registry))
    verdicts = [Verdict(str(each.origin), "loads", "failed", (each.reason,)) for each in broken]
    for origin in dict.fromkeys([*loaded, *(origin for _, _, origin in components)]):
        verdicts += judge(str(origin), {"imports no torch": lambda o=origin: check_discovery(o, registry)})  # type: ignore[misc]
    for cls, kind, _ in components:
        with progress.busy(f"check {kind} {cls.name}"):
            verdicts += check_component(cls, registry, None if options is None else [options], kind=kind)
    return verdicts


def check_component(
    cls: type[Component],
    registry: Registry,
    examples: Sequence[Mapping[str, Any]] | None = None,
    *,
    kind: str = "component",
    architectures: Sequence[str] = ARCHITECTURES,
) -> list[Verdict]:
    """Check one class, installed or not.

    Args:
        registry: where the models it is tried on and the runtime come from.
        examples: options to try it with, in place of the class's own.
        kind: what messages call it.
        architectures: model sources that a pass is tried on.
    """
    subject = Subject(cls, kind, registry, examples)
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
