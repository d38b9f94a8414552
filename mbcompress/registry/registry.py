"""What recipes can name, by kind and name, with the plugin that each thing came from."""

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
    """The plugin that something came from, and the distribution that installed it.

    Attributes:
        plugin: name of the entry point.
        location: the directory that the distribution was found in, or is edited in.
    """

    plugin: str
    distribution: str
    version: str
    location: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} of {self.distribution} {self.version}"


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be used, wholly or in part, and why."""

    origin: Origin
    reason: str


@dataclass
class Kind(Generic[C]):
    """Components of one kind by name."""

    name: str
    base: type[Any]  # type[C]; but mypy takes no abstract class for that
    classes: dict[str, type[C]] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)

    def register(self, cls: type[C], origin: Origin) -> None:
        """Add a component.

        Raises:
            MbcompressError: the name is missing or already taken, or the class cannot be used as it is.
        """
        name = _check(self.name, cls)
        if name in self.classes:
            raise MbcompressError(f"{self.name} {name!r} is already provided by {self.origins[name]}")
        self.classes[name] = cls
        self.origins[name] = origin

    def adopt(self, component: Component) -> C:
        """An object that a program made, as it is; its class need not be installed.

        Raises:
            SpecError: it is of another kind, or its class cannot be used as it is.
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

    def origin_of(self, component: C) -> Origin | None:
        """Where the component's class was installed from; None if it is somebody's own."""
        return self.origins[component.name] if self.classes.get(component.name) is type(component) else None

    def build(self, name: object, options: object, registry: Registry) -> C:
        """An instance from the options that a recipe gives.

        Raises:
            SpecError: the name is unknown or an option is wrong; its path is relative to the options.
        """
        if not isinstance(name, str) or name not in self.classes:
            raise SpecError((), unknown(self.name, name, self.classes) + registry.absent(), at_key=True)
        if options is None:
            options = {}
        if not isinstance(options, Mapping):
            raise SpecError((), f"must be a mapping of options, got {shown(options)}")
        cls = self.classes[name]
        try:
            return cls.model_validate(dict(options), context={"registry": registry})
        except ValidationError as error:
            raise first_problem(error, cls) from None

    def __iter__(self) -> Iterator[tuple[type[C], Origin]]:
        """Components and where they came from, by name."""
        return ((self.classes[name], self.origins[name]) for name in sorted(self.classes))


@dataclass
class Registry:
    """Everything that recipes can name, and the plugins that it came from.

    Attributes:
        operators: sets of operators, by namespace, which no recipe names but stored models do.
        plugins: those that were loaded.
        broken: those that could not be used, or not all of what they offer.
        blocked: those that were not loaded because the user said so.
        listeners: of each hook of a run's lifecycle, who is told.
    """

    passes: Kind[Pass] = field(default_factory=lambda: Kind("pass", Pass))
    models: Kind[ModelSource] = field(default_factory=lambda: Kind("model source", ModelSource))
    datasets: Kind[Dataset] = field(default_factory=lambda: Kind("dataset", Dataset))
    runtimes: Kind[Runtime] = field(default_factory=lambda: Kind("runtime", Runtime))
    metrics: Kind[Metric] = field(default_factory=lambda: Kind("metric", Metric))
    operators: dict[str, tuple[Origin, OperatorSet]] = field(default_factory=dict)
    plugins: list[Origin] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    blocked: list[Origin] = field(default_factory=list)
    listeners: dict[str, list[tuple[Origin, Listener]]] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[Kind[Any], ...]:
        """One for each kind of component."""
        return tuple(value for value in vars(self).values() if isinstance(value, Kind))

    def add_operators(self, cls: type[OperatorSet], origin: Origin) -> None:
        """Add a set of operators.

        Raises:
            MbcompressError: it is incomplete, or its namespace is taken or not what its operators have.
        """
        name = getattr(cls, "name", "")
        if inspect.isabstract(cls):
            missing = " and ".join(repr(verb) for verb in sorted(cls.__abstractmethods__))
            raise MbcompressError(f"operator set {cls.__qualname__} does not implement {missing}")
        if not name or not all(each.startswith(f"{name}.") for each in getattr(cls, "operators", [""])):
            wanted = "must have 'operators' that begin with its 'name' and a dot"
            raise MbcompressError(f"operator set {cls.__qualname__} {wanted}")
        if name in TORCHS_OWN or name in self.operators:
            owner = self.operators[name][0] if name in self.operators else "torch"
            raise MbcompressError(f"operator set {name!r} is already provided by {owner}")
        self.operators[name] = (origin, cls())

    def absent(self) -> str:
        """For the message about a name that nobody provides: whose it may be, because they are not there."""
        reasons = [f"{broken.origin} could not be used: {broken.reason}" for broken in self.broken]
        reasons += [f"{origin} is blocked" for origin in self.blocked]
        return f"; note that {'; '.join(reasons)}" if reasons else ""

    def build_model(self, spec: Mapping[str, Any]) -> ModelSource:
        """A model source from `{source: NAME, …options}`."""
        return self._build_named(self.models, "source", spec)

    def build_dataset(self, spec: Mapping[str, Any]) -> Dataset:
        """A dataset from `{name: NAME, …options}`."""
        return self._build_named(self.datasets, "name", spec)

    def _build_named(self, kind: Kind[C], key: str, spec: Mapping[str, Any]) -> C:
        if key not in spec:
            raise SpecError((), f"{key!r} is missing (known: {', '.join(sorted(kind.classes))})")
        try:
            return kind.build(spec[key], {k: v for k, v in spec.items() if k != key}, self)
        except SpecError as error:
            # an unknown name is found at the value of `key`
            named: tuple[PathPart, ...] = (key,) if error.at_key and not error.path else ()
            raise SpecError((*named, *error.path), error.problem, at_key=error.at_key and not named) from None


def _check(kind: str, cls: type[Component]) -> str:
    """The name of a class that can be used.

    Raises:
        MbcompressError: it has none, or can never be built or chained.
    """
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name:
        raise MbcompressError(f"{kind} {cls.__qualname__} has no 'name'; set it as a class attribute")
    if problem := _unusable(cls):
        raise MbcompressError(f"{kind} {name!r} {problem}")
    return name


def _unusable(cls: type[Component]) -> str:
    """What keeps a class from ever being built or chained, in words that follow its name; empty if nothing does."""
    if inspect.isabstract(cls):
        return f"does not implement {' and '.join(repr(verb) for verb in sorted(cls.__abstractmethods__))}"
    if not cls.__pydantic_complete__ and not cls.model_rebuild(raise_errors=False):
        return "has options whose types are imported under 'if TYPE_CHECKING' only; import them at run time too"
    if issubclass(cls, Pass):
        for says in ("requires", "provides", "destroys"):
            found = getattr(cls, says)
            if not isinstance(found, frozenset) or not found <= set(Trait):
                known = ", ".join(str(trait) for trait in Trait)
                return f"{says} {shown(found)}, which must be a frozenset of mbcompress.Trait (known: {known})"
    return ""
