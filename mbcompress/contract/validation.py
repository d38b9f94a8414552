"""Turns pydantic's findings into one sentence: what must hold, what was found, the nearest valid choice."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from mbcompress.errors import SpecError, shown, unknown


def first_problem(error: ValidationError, model: type[BaseModel]) -> SpecError:
    """The first finding, with its path inside the options of `model`; unknown options come before missing ones."""
    findings = error.errors(include_url=False)
    finding = min(findings, key=lambda each: each["type"] != "extra_forbidden")
    if finding["type"] == "extra_forbidden":
        *way, option = finding["loc"]
        path = _without_branches(way)
        return SpecError((*path, option), unknown("option", option, _fields_at(model, path)), at_key=True)
    path = _without_branches(finding["loc"])
    if finding["type"] == "missing":
        return SpecError(path[:-1], f"{path[-1]!r} is missing")
    cause = finding.get("ctx", {}).get("error")
    if isinstance(cause, SpecError):  # of a specification that stands in these options
        return cause.under(*path)
    return SpecError(path, _sentence(finding["type"], finding["msg"], finding["input"], finding.get("ctx", {})))


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


def _sentence(kind: str, message: str, found: object, context: dict[str, Any]) -> str:
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    if kind == "literal_error":
        return f"must be {context['expected']}, got {shown(found)}"
    if kind == "too_short":
        least = context["min_length"]
        return f"must have at least {least} {'entry' if least == 1 else 'entries'}, got {shown(found)}"
    wanted, _, rest = kind.partition("_")
    if wanted in TYPES and (rest in ("type", "parsing", "parsing_size") or rest.startswith("from")):
        return f"must be {TYPES[wanted]}, got {shown(found)}"
    text = message
    for clumsy, plain in WORDS.items():
        text = text.replace(clumsy, plain)
    return f"{text[0].lower()}{text[1:]}, got {shown(found)}"


def _without_branches(path: Iterable[int | str]) -> tuple[int | str, ...]:
    """Pydantic names the branch of a union in the path: 'literal[...]', 'function-before[...]'."""
    return tuple(part for part in path if isinstance(part, int) or "[" not in part)


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        nested = [t for t in _alternatives(field.annotation if field else None) if _is_model(t)]
        if not nested:
            return []
        model = nested[0]
    return list(model.model_fields)


def _alternatives(annotation: object) -> tuple[Any, ...]:
    return getattr(annotation, "__args__", None) or (annotation,)


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
