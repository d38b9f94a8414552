"""The registry: components by kind and name, with the plugin that provides each."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pydantic import ValidationError

from mbcompress.contract.datasets import Dataset
from mbcompress.contract.metrics import Metric
from mbcompress.contract.models import ModelSource
from mbcompress.contract.options import Component
from mbcompress.contract.passes import Pass
from mbcompress.contract.runtimes import Runtime
from mbcompress.contract.traits import Trait
from mbcompress.contract.validation import first_problem
from mbcompress.errors import MbcompressError, PathPart, SpecError, shown, unknown

if TYPE_CHECKING:
    from mbcompress.contract.events import Listener
    from mbcompress.contract.operators import OperatorSet

C = TypeVar("C", bound=Component)
TORCHS_OWN = ("aten", "prims", "quantized", "quantized_decomposed", "mkldnn", "onednn")


@dataclass(frozen=True)
class Origin:
    """The plugin that provides something, and the distribution that installs it.

    Attributes:
        plugin: name of the entry point.
        location: the directory of the installed distribution, or of its source if the install is editable.
    """

    plugin: str
    distribution: str
    version: str
    location: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} of {self.distribution} {self.version}"


@dataclass(frozen=True)
class Broken:
    """A plugin that is completely or partly unusable, and the reason."""

    origin: Origin
    reason: str


@dataclass
class Kind(Generic[C]):
    """The components of one kind: classes and their origins by name.

    Attributes:
        name: the kind in messages: 'pass', 'model source'.
        base: the class that all components of the kind derive from.
        key: the key of the component's name in a mapping like `{source: NAME, …}`; None if recipes use `NAME` or `NAME:
            {option: value}`.
    """

    name: str
    base: type[Any]  # type[C], but mypy rejects abstract classes there
    key: str | None = None
    classes: dict[str, type[C]] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)

    def register(self, cls: type[C], origin: Origin) -> None:
        """Add a component class.

        Raises:
            MbcompressError: the class is unusable, or its name is missing or taken.
        """
        name = _check(self.name, cls)
        if name in self.classes:
            raise MbcompressError(f"{self.name} {name!r} is already provided by {self.origins[name]}")
        if issubclass(cls, Runtime):
            _check_importable(f"runtime {name!r}", cls)
        self.classes[name] = cls
        self.origins[name] = origin

    def origin_of(self, component: C) -> Origin | None:
        """Return the plugin that provides the component's class; None if the class is not installed."""
        return self.origins[component.name] if self.classes.get(component.name) is type(component) else None

    def resolve(self, spec: object, registry: Registry) -> C:
        """Return the component that a recipe value specifies; a component object is returned unchanged.

        Raises:
            SpecError: the value does not name a component of this kind, or an option is invalid.
        """
        if isinstance(spec, Component):
            return self.adopt(spec)
        return self._from_entry(spec, registry) if self.key is None else self._from_mapping(spec, self.key, registry)

    def adopt(self, component: Component) -> C:
        """Check a component object and return it; its class need not be installed.

        Raises:
            SpecError: the component is of another kind, or its class is unusable.
        """
        cls = type(component)
        if not isinstance(component, self.base):
            wanted = f"must be a {self.name}, an mbcompress.{self.base.__name__}"
            raise SpecError((), f"{wanted}, got an object of class {cls.__name__}")
        try:
            _check(self.name, cls)
        except MbcompressError as error:
            raise SpecError((), str(error)) from None
        return cast("C", component)

    def build(self, name: object, options: object, registry: Registry) -> C:
        """Create the component called `name` with the given options.

        Raises:
            SpecError: the name is unknown or an option is invalid; the error's path starts at the options.
        """
        if not isinstance(name, str) or name not in self.classes:
            raise SpecError((), unknown(self.name, name, self.classes) + registry.unavailable(), at_key=True)
        if options is None:
            options = {}
        if not isinstance(options, Mapping):
            raise SpecError((), f"must be a mapping of options, got {shown(options)}")
        cls = self.classes[name]
        try:
            return cls.model_validate(dict(options), context={"registry": registry})
        except ValidationError as error:
            raise first_problem(error, cls) from None

    def _from_entry(self, entry: object, registry: Registry) -> C:
        """Build from `NAME` or `{NAME: {option: value}}`."""
        if isinstance(entry, str):
            entry = {entry: {}}
        if not (isinstance(entry, Mapping) and len(entry) == 1):
            form = f"must be one {self.name}, as 'name' or 'name: {{option: value}}'"
            raise SpecError((), f"{form}, got {shown(entry)}")
        ((name, options),) = entry.items()
        try:
            return self.build(name, options, registry)
        except SpecError as error:
            raise error.under(name) from None

    def _from_mapping(self, spec: object, key: str, registry: Registry) -> C:
        """Build from `{KEY: NAME, option: value, …}`."""
        if not isinstance(spec, Mapping):
            raise SpecError((), f"must be a mapping like {{{key}: NAME, …}}, got {shown(spec)}")
        if key not in spec:
            raise SpecError((), f"{key!r} is missing (known: {', '.join(sorted(self.classes))})")
        try:
            return self.build(spec[key], {k: v for k, v in spec.items() if k != key}, registry)
        except SpecError as error:
            # an unknown name is reported at the value of the key
            named: tuple[PathPart, ...] = (key,) if error.at_key and not error.path else ()
            raise SpecError((*named, *error.path), error.problem, at_key=error.at_key and not named) from None

    def __iter__(self) -> Iterator[tuple[type[C], Origin]]:
        """Iterate over classes and origins, sorted by name."""
        return ((self.classes[name], self.origins[name]) for name in sorted(self.classes))


@dataclass
class Registry:
    """All components that recipes can name, and the plugins that provide them.

    Attributes:
        operators: operator sets by namespace; used by stored models, not by recipes.
        plugins: loaded plugins.
        broken: plugins that are completely or partly unusable.
        blocked: plugins that the user blocked.
        listeners: for each hook of a run, the plugins that implement it.
    """

    passes: Kind[Pass] = field(default_factory=lambda: Kind("pass", Pass))
    models: Kind[ModelSource] = field(default_factory=lambda: Kind("model source", ModelSource, "source"))
    datasets: Kind[Dataset] = field(default_factory=lambda: Kind("dataset", Dataset, "name"))
    runtimes: Kind[Runtime] = field(default_factory=lambda: Kind("runtime", Runtime))
    metrics: Kind[Metric] = field(default_factory=lambda: Kind("metric", Metric))
    operators: dict[str, tuple[Origin, OperatorSet]] = field(default_factory=dict)
    plugins: list[Origin] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    blocked: list[Origin] = field(default_factory=list)
    listeners: dict[str, list[tuple[Origin, Listener]]] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[Kind[Any], ...]:
        """The five kinds of components."""
        return self.passes, self.models, self.datasets, self.runtimes, self.metrics

    @property
    def origins(self) -> list[Origin]:
        """All installed plugins without duplicates: loaded, blocked or broken."""
        return list(dict.fromkeys([*self.plugins, *self.blocked, *(broken.origin for broken in self.broken)]))

    def add_operators(self, cls: type[OperatorSet], origin: Origin) -> None:
        """Add an operator set.

        Raises:
            MbcompressError: the set is incomplete, its namespace is taken, or its operators are in another namespace.
        """
        name = getattr(cls, "name", "")
        if inspect.isabstract(cls):
            raise MbcompressError(f"operator set {cls.__qualname__} {_missing_methods(cls)}")
        if not name or not all(operator.startswith(f"{name}.") for operator in getattr(cls, "operators", [""])):
            wanted = "must have 'operators' that begin with its 'name' and a dot"
            raise MbcompressError(f"operator set {cls.__qualname__} {wanted}")
        if name in TORCHS_OWN or name in self.operators:
            owner = self.operators[name][0] if name in self.operators else "torch"
            raise MbcompressError(f"operator set {name!r} is already provided by {owner}")
        _check_importable(f"operator set {name!r}", cls)
        self.operators[name] = (origin, cls())

    def unavailable(self) -> str:
        """Return a suffix for errors about unknown names: broken and blocked plugins, which may provide the name."""
        reasons = [f"{broken.origin} could not be used: {broken.reason}" for broken in self.broken]
        reasons += [f"{origin} is blocked" for origin in self.blocked]
        return f"; note that {'; '.join(reasons)}" if reasons else ""

    def build_model(self, spec: Mapping[str, Any]) -> ModelSource:
        """Create a model source from `{source: NAME, option: value, …}`."""
        return self.models.resolve(spec, self)

    def build_dataset(self, spec: Mapping[str, Any]) -> Dataset:
        """Create a dataset from `{name: NAME, option: value, …}`."""
        return self.datasets.resolve(spec, self)


def _check(kind: str, cls: type[Component]) -> str:
    """Check a component class and return its name.

    Raises:
        MbcompressError: the class has no name, cannot be instantiated, or has invalid traits.
    """
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name:
        raise MbcompressError(f"{kind} {cls.__qualname__} has no 'name'; set it as a class attribute")
    if problem := _problem(cls):
        raise MbcompressError(f"{kind} {name!r} {problem}")
    return name


def _problem(cls: type[Component]) -> str:
    """Return why a class is unusable, to follow its name in a message; empty if it is usable."""
    if inspect.isabstract(cls):
        return _missing_methods(cls)
    if not cls.__pydantic_complete__ and not cls.model_rebuild(raise_errors=False):
        return "has options whose types are only imported under 'if TYPE_CHECKING'; import them at run time too"
    if issubclass(cls, Pass):
        for attribute in ("requires", "provides", "destroys"):
            traits = getattr(cls, attribute)
            if not isinstance(traits, frozenset) or not traits <= set(Trait):
                known = ", ".join(str(trait) for trait in Trait)
                return f"{attribute} {shown(traits)}, which must be a frozenset of mbcompress.Trait (known: {known})"
    return ""


def _check_importable(subject: str, cls: type[Any]) -> None:
    """Reject a class that other processes could not import."""
    if "<locals>" in cls.__qualname__:
        raise MbcompressError(
            f"{subject} must be defined at the top level of a module, where other processes can import it"
        )


def _missing_methods(cls: type[Any]) -> str:
    return f"does not implement {' and '.join(repr(method) for method in sorted(cls.__abstractmethods__))}"
