"""Finds the installed plugins and turns what they offer into a catalogue. The only file that talks to pluggy."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pluggy
from pydantic import ValidationError

from mbcompress import hookspecs
from mbcompress.components import Component, Dataset, ModelSource, Pass, Runtime
from mbcompress.errors import MbcompressError, PathPart, SpecError, brief, shown, unknown
from mbcompress.validation import first_problem

GROUP = OURS = "mbcompress"
C = TypeVar("C", bound=Component)


@dataclass(frozen=True)
class Origin:
    """The plugin that something came from, and the distribution that installed it."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} of {self.distribution} {self.version}"


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be used, and why."""

    origin: Origin
    reason: str


@dataclass
class Registry(Generic[C]):
    """Components of one kind by name."""

    kind: str
    classes: dict[str, type[C]] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)

    def register(self, cls: type[C], origin: Origin) -> None:
        """Add a component.

        Raises:
            MbcompressError: the name is missing or already taken.
        """
        name = getattr(cls, "name", None)
        if not isinstance(name, str) or not name:
            raise MbcompressError(f"{self.kind} {cls.__qualname__} has no 'name'; set it as a class attribute")
        if name in self.classes:
            raise MbcompressError(f"{self.kind} {name!r} is already provided by {self.origins[name]}")
        self.classes[name] = cls
        self.origins[name] = origin

    def build(self, name: object, options: object, catalogue: Catalogue) -> C:
        """An instance from the options that a recipe gives.

        Raises:
            SpecError: the name is unknown or an option is wrong; its path is relative to the options.
        """
        if not isinstance(name, str) or name not in self.classes:
            raise SpecError((), unknown(self.kind, name, self.classes), at_key=True)
        if options is None:
            options = {}
        if not isinstance(options, Mapping):
            raise SpecError((), f"must be a mapping of options, got {shown(options)}")
        cls = self.classes[name]
        try:
            return cls.model_validate(dict(options), context={"catalogue": catalogue})
        except ValidationError as error:
            raise first_problem(error, cls) from None

    def __iter__(self) -> Iterator[tuple[type[C], Origin]]:
        """Components and where they came from, by name."""
        return ((self.classes[name], self.origins[name]) for name in sorted(self.classes))


@dataclass
class Catalogue:
    """Everything that recipes can name, and the plugins that could not be used."""

    passes: Registry[Pass] = field(default_factory=lambda: Registry("pass"))
    models: Registry[ModelSource] = field(default_factory=lambda: Registry("model source"))
    datasets: Registry[Dataset] = field(default_factory=lambda: Registry("dataset"))
    runtimes: Registry[Runtime] = field(default_factory=lambda: Registry("runtime"))
    broken: list[Broken] = field(default_factory=list)

    def build_model(self, spec: Mapping[str, Any]) -> ModelSource:
        """A model source from `{source: NAME, …options}`."""
        return self._build_named(self.models, "source", spec)

    def build_dataset(self, spec: Mapping[str, Any]) -> Dataset:
        """A dataset from `{name: NAME, …options}`."""
        return self._build_named(self.datasets, "name", spec)

    def _build_named(self, registry: Registry[C], key: str, spec: Mapping[str, Any]) -> C:
        if key not in spec:
            raise SpecError((), f"{key!r} is missing (known: {', '.join(sorted(registry.classes))})")
        try:
            return registry.build(spec[key], {k: v for k, v in spec.items() if k != key}, self)
        except SpecError as error:
            # an unknown name is found at the value of `key`
            named: tuple[PathPart, ...] = (key,) if error.at_key and not error.path else ()
            raise SpecError((*named, *error.path), error.problem, at_key=error.at_key and not named) from None


REGISTRIES: dict[str, tuple[str, type[Component]]] = {
    "mbcompress_passes": ("passes", Pass),
    "mbcompress_models": ("models", ModelSource),
    "mbcompress_datasets": ("datasets", Dataset),
    "mbcompress_runtimes": ("runtimes", Runtime),
}


def discover() -> Catalogue:
    """Load every installed plugin; one that fails is listed as broken and takes nothing else down."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    catalogue = Catalogue()
    origins = _load_plugins(manager, catalogue)
    for hook, (attribute, base) in REGISTRIES.items():
        functions = {each.plugin_name: each.function for each in getattr(manager.hook, hook).get_hookimpls()}
        for name, origin in origins.items():
            if name not in functions:
                continue
            try:
                _register_all(getattr(catalogue, attribute), base, functions[name](), origin, hook)
            except (Exception, SystemExit) as error:  # a stranger's code may raise anything
                catalogue.broken.append(Broken(origin, _reason(error)))
    return catalogue


def _load_plugins(manager: pluggy.PluginManager, catalogue: Catalogue) -> dict[str, Origin]:
    """Register the plugins of every distribution, ours first, and say where each name came from."""
    origins: dict[str, Origin] = {}
    for origin, entry in _entry_points(catalogue):
        taken = origins.setdefault(origin.plugin, origin)
        if manager.has_plugin(origin.plugin) and taken == origin:
            continue  # the same distribution seen twice on sys.path, as editable installs are
        if taken != origin:
            catalogue.broken.append(Broken(origin, f"its name is already taken by {taken}"))
            continue
        try:
            manager.register(entry.load(), entry.name)
            manager.check_pending()
        except (Exception, SystemExit) as error:
            if manager.has_plugin(entry.name):
                manager.unregister(name=entry.name)
            catalogue.broken.append(Broken(origin, _reason(error)))
    return origins


def _entry_points(catalogue: Catalogue) -> Iterator[tuple[Origin, importlib.metadata.EntryPoint]]:
    """Entry points of our group; nobody who comes earlier on sys.path can take the place of a built-in."""
    distributions = sorted(importlib.metadata.distributions(), key=lambda each: each.metadata["Name"] != OURS)
    for distribution in distributions:
        name, version = distribution.metadata["Name"], distribution.version
        try:
            entries = [entry for entry in distribution.entry_points if entry.group == GROUP]
        except Exception as error:  # importlib.metadata raises what its parser happens to meet
            reason = f"its entry points cannot be read ({_reason(error)})"
            catalogue.broken.append(Broken(Origin("?", name, version), reason))
            continue
        yield from ((Origin(entry.name, name, version), entry) for entry in entries)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _register_all(registry: Registry[Any], base: type[Component], offered: object, origin: Origin, hook: str) -> None:
    if not isinstance(offered, list | tuple):
        raise MbcompressError(f"hook {hook} must return a list of classes, got {brief(repr(offered))}")
    for cls in offered:
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise MbcompressError(f"hook {hook} must return subclasses of {base.__name__}, got {brief(repr(cls))}")
        registry.register(cls, origin)
