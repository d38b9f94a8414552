"""Turn pydantic errors into one sentence: what is expected, what was found, and the closest valid name."""

from __future__ import annotations

from inspect import get_annotations
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from mbcompress.contract.options import Component, Options
from mbcompress.errors import PathPart, SpecError, shown, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import BaseModel, ValidationError
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

RENAMED = {
    "accumulation": "grad_accum_steps",
    "magnitude": "randaugment_magnitude",
    "norm_momentum": "bn_momentum",
    "random_augment": "randaugment",
}
"""Former names of options and recipe keys, and their new names."""

TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "model": "a mapping of options",
    "path": "a path",
}

WORDS = {
    "Input should be": "must be",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "a valid ": "a ",
}


def first_problem(error: ValidationError, model: type[BaseModel]) -> SpecError:
    """Return the first error, with its path in the options of `model`; unknown options come before missing ones."""
    return problems(error, model)[0]


def problems(error: ValidationError, model: type[BaseModel], noun: str = "option") -> list[SpecError]:
    """Return all errors, unknown options first; `noun` is what to call the fields of `model`."""
    details = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] != "extra_forbidden")
    return [_problem(detail, model, noun) for detail in details]


def nested_options(field: FieldInfo) -> type[Options] | None:
    """Return the class of nested options, such as `training`; None for a plain option or a component."""
    return next((cls for cls in _models_in(field.annotation) if not issubclass(cls, Component)), None)


def listed_fields(cls: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields in listing order: a plugin's own, those declared by mbcompress, then nested options."""
    classes = [base for base in cls.__mro__ if base.__module__.split(".")[0] != "mbcompress"]
    own = {name for base in classes for name in get_annotations(base)}

    def rank(name: str) -> tuple[bool, bool]:
        field = cls.model_fields[name]
        return nested_options(field) is not None, name not in own and not field.is_required()

    return {name: cls.model_fields[name] for name in sorted(cls.model_fields, key=rank)}


def _problem(detail: ErrorDetails, model: type[BaseModel], noun: str) -> SpecError:
    if detail["type"] == "extra_forbidden":
        *branches, name = detail["loc"]
        parents = _without_branches(branches)
        text = _unknown_option(str(name), _model_at(model, parents), model, "option" if parents else noun)
        return SpecError((*parents, name), text, at_key=True)
    path = _without_branches(detail["loc"])
    context = detail.get("ctx", {})
    if detail["type"] == "missing":
        return SpecError(path[:-1], f"{path[-1]!r} is missing")
    if isinstance(cause := context.get("error"), SpecError):  # from a component inside these options
        return cause.under(*path)
    return SpecError(path, _sentence(detail["type"], detail["msg"], detail["input"], context))


def _sentence(kind: str, message: str, value: object, context: dict[str, Any]) -> str:
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    if kind == "literal_error":
        return f"must be {context['expected']}, got {shown(value)}"
    if kind == "too_short":
        least = context["min_length"]
        return f"must have at least {least} {'entry' if least == 1 else 'entries'}, got {shown(value)}"
    wanted, _, rest = kind.partition("_")
    if wanted in TYPES and (rest in ("type", "parsing", "parsing_size") or rest.startswith("from")):
        return f"must be {TYPES[wanted]}, got {shown(value)}"
    text = message
    for clumsy, plain in WORDS.items():
        text = text.replace(clumsy, plain)
    return f"{text[0].lower()}{text[1:]}, got {shown(value)}"


def _unknown_option(name: str, group: type[BaseModel] | None, root: type[BaseModel], noun: str) -> str:
    """Return the message for an unknown option: suggest its new name, or the same name in other nested options."""
    if group is None:
        return unknown(noun, name, ())
    new = RENAMED.get(name)
    paths = list(_paths_to(new or name, group)) or list(_paths_to(name, root))
    choices = " or ".join(repr(path) for path in paths)
    hint = "" if not paths else f"it is now {choices}" if new else f"did you mean {choices}?"
    return unknown(noun, name, group.model_fields, hint)


def _paths_to(name: str, model: type[BaseModel]) -> Iterator[str]:
    """Yield the dotted paths of all options called `name`, including nested ones."""
    for key, field in model.model_fields.items():
        if key == name:
            yield key
        if group := nested_options(field):
            yield from (f"{key}.{path}" for path in _paths_to(name, group))


def _without_branches(path: Iterable[PathPart]) -> tuple[PathPart, ...]:
    """Drop union branch names that pydantic adds to a path: 'literal[...]', 'function-before[...]'."""
    return tuple(part for part in path if isinstance(part, int) or "[" not in part)


def _model_at(model: type[BaseModel], path: Iterable[PathPart]) -> type[BaseModel] | None:
    for part in path:
        field = model.model_fields.get(str(part))
        nested = next(_models_in(field.annotation), None) if field else None
        if nested is None:
            return None
        model = nested
    return model


def _models_in(annotation: object) -> Iterator[type[Options]]:
    """Yield the options classes in an annotation: itself, or the members of a union."""
    for cls in get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,):
        if isinstance(cls, type) and issubclass(cls, Options):
            yield cls
