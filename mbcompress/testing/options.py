"""Checks of a component's options; the component does not run."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from mbcompress.contract.models import ModelSource
from mbcompress.contract.validation import first_problem
from mbcompress.errors import MbcompressError, shown
from mbcompress.testing.result import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mbcompress.contract.options import Component
    from mbcompress.registry.registry import Registry

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
REQUIRED = {ModelSource: {"num_classes": 10}}
"""Required options of a kind, and the values that the kit uses."""


class Subject:
    """A component's class with the options to test it with; `examples` replace those of the class."""

    def __init__(
        self, cls: type[Component], kind: str, registry: Registry, examples: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        self.cls = cls
        self.label = f"{kind} {cls.name!r}"
        self.registry = registry
        required = next((options for base, options in REQUIRED.items() if issubclass(cls, base)), {})
        self.examples = [{**required, **options} for options in (cls.examples if examples is None else examples)]

    def build(self, options: Mapping[str, Any]) -> Any:
        """Build an instance as a recipe does."""
        return self.cls.model_validate(dict(options), context={"registry": self.registry})

    def instances(self) -> list[Any]:
        """One for each of the examples.

        Raises:
            Skipped: there are no examples, or they are invalid; `check_defaults` reports the latter.
        """
        if not self.examples:
            raise Skipped("it has no examples; pass options with --option KEY=VALUE or examples=[{…}]")
        try:
            return [self.build(options) for options in self.examples]
        except (ValidationError, MbcompressError):
            raise Skipped("its examples are invalid") from None


def check_descriptions(subject: Subject) -> Iterator[str]:
    """The class and all options, including nested ones, have descriptions."""
    if not NAME.fullmatch(subject.cls.name):
        yield f"name {shown(subject.cls.name)} must consist of letters, digits, '_' and '-'"
    if not subject.cls.summary():
        yield f"class {subject.cls.__name__} needs a docstring; `mbcompress passes` shows its first line"
    if subject.cls.model_config.get("extra") != "forbid" or not subject.cls.model_config.get("frozen"):
        yield "model_config must keep extra='forbid' and frozen=True, so that unknown options are refused"
    yield from _undescribed(subject.cls, "")


def _undescribed(cls: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in cls.model_fields.items():
        if not (field.description or "").strip():
            yield f"option {prefix + name!r} needs a description: {name}: … = Field(…, description='…')"
        for nested in (field.annotation, *get_args(field.annotation)):
            if isinstance(nested, type) and issubclass(nested, BaseModel) and not issubclass(nested, ModelSource):
                yield from _undescribed(nested, f"{prefix}{name}.")


def check_defaults(subject: Subject) -> Iterator[str]:
    """Every option has a default, or a value in the class's examples."""
    in_examples = {name for options in subject.examples for name in options}
    for name, field in subject.cls.model_fields.items():
        if field.is_required() and name not in in_examples and subject.examples:
            yield f"option {name!r} needs a default, or a value in the class's examples"
    for options in subject.examples:
        try:
            subject.build(options)
        except ValidationError as error:
            problem = first_problem(error, subject.cls)
            yield f"cannot be built from {shown(options)}: {problem}; set examples to options that work"


def check_schema(subject: Subject) -> Iterator[str]:
    """The options have a JSON Schema."""
    try:
        json.dumps(subject.cls.model_json_schema())
    except (PydanticInvalidForJsonSchema, TypeError) as error:
        yield f"has no JSON Schema: {str(error).splitlines()[0]}; use option types that JSON has"


def check_round_trip(subject: Subject) -> Iterator[str]:
    """Options survive the round trip through a run directory."""
    for instance in subject.instances():
        for form, dumped in (("model_dump()", instance.model_dump()), ("JSON", _as_json(instance))):
            try:
                again = subject.build(dumped)
            except ValidationError as error:
                problem = first_problem(error, subject.cls)
                yield f"rejects its own {form}: {problem}; validators must accept their own output"
                continue
            if again != instance:
                yield f"{shown(instance)} becomes {shown(again)} through its {form}; validators must keep valid values"


def _as_json(instance: BaseModel) -> Any:
    return json.loads(json.dumps(instance.model_dump(mode="json")))
