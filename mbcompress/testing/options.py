"""Checks of a component's options, without running the component."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from mbcompress.contract.models import ModelSource
from mbcompress.contract.validation import first_problem
from mbcompress.errors import MbcompressError, shown
from mbcompress.testing.verdict import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mbcompress.contract.options import Component
    from mbcompress.registry.registry import Registry

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
CONTRACT = {ModelSource: {"num_classes": 10}}
"""Options that every component of a kind must be given, and what the kit gives."""


class Subject:
    """A component's class, with the options that it is tried with.

    Args:
        examples: in place of the class's own.
    """

    def __init__(
        self, cls: type[Component], kind: str, registry: Registry, examples: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        self.cls = cls
        self.label = f"{kind} {cls.name!r}"
        self.registry = registry
        given = next((options for base, options in CONTRACT.items() if issubclass(cls, base)), {})
        self.examples = [{**given, **options} for options in (cls.examples if examples is None else examples)]

    def build(self, options: Mapping[str, Any]) -> Any:
        """An instance, as a recipe would make it."""
        return self.cls.model_validate(dict(options), context={"registry": self.registry})

    def instances(self) -> list[Any]:
        """One for each of the examples.

        Raises:
            Skipped: there are none, or they do not work here, which `check_defaults` says.
        """
        if not self.examples:
            raise Skipped("it has no examples, so name options to try it with: --option KEY=VALUE, or examples=[{…}]")
        try:
            return [self.build(options) for options in self.examples]
        except (ValidationError, MbcompressError):
            raise Skipped("its examples are refused") from None


def check_descriptions(subject: Subject) -> Iterator[str]:
    """The class and each option, also those of nested options, say what they are."""
    if not NAME.fullmatch(subject.cls.name):
        yield f"name {shown(subject.cls.name)} must be letters, digits, '_' and '-', so that recipes can write it"
    if not subject.cls.summary():
        yield f"class {subject.cls.__name__} needs a docstring: its first line is what `mbcompress passes` shows"
    if subject.cls.model_config.get("extra") != "forbid" or not subject.cls.model_config.get("frozen"):
        yield "model_config must keep extra='forbid' and frozen=True, so that misspelt options are refused"
    yield from _undescribed(subject.cls, "")


def _undescribed(cls: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in cls.model_fields.items():
        if not (field.description or "").strip():
            yield f"option {prefix + name!r} needs a description: {name}: … = Field(…, description='…')"
        for nested in (field.annotation, *get_args(field.annotation)):
            if isinstance(nested, type) and issubclass(nested, BaseModel) and not issubclass(nested, ModelSource):
                yield from _undescribed(nested, f"{prefix}{name}.")


def check_defaults(subject: Subject) -> Iterator[str]:
    """Each option has a default, or the class's examples say what to try."""
    given = {name for options in subject.examples for name in options}
    for name, field in subject.cls.model_fields.items():
        if field.is_required() and name not in given and subject.examples:
            yield f"option {name!r} needs a default, or a value in the class's examples where no default can be right"
    for options in subject.examples:
        try:
            subject.build(options)
        except ValidationError as error:
            problem = first_problem(error, subject.cls)
            yield f"cannot be built from {shown(options)}: {problem}; set examples to options that work"


def check_schema(subject: Subject) -> Iterator[str]:
    """Options have a JSON Schema, which editors use."""
    try:
        json.dumps(subject.cls.model_json_schema())
    except (PydanticInvalidForJsonSchema, TypeError) as error:
        yield f"has no JSON Schema: {str(error).splitlines()[0]}; use types for options that JSON has"


def check_round_trip(subject: Subject) -> Iterator[str]:
    """Options come back from what a run directory keeps of them."""
    for instance in subject.instances():
        for what, dumped in (("model_dump()", instance.model_dump()), ("JSON", _as_json(instance))):
            try:
                again = subject.build(dumped)
            except ValidationError as error:
                yield f"refuses its own {what}: {first_problem(error, subject.cls)}; let validators take what they give"
                continue
            if again != instance:
                yield f"{shown(instance)} comes back from its {what} as {shown(again)}; validators must keep a value"


def _as_json(instance: BaseModel) -> Any:
    return json.loads(json.dumps(instance.model_dump(mode="json")))
