"""Turns pydantic's findings into one sentence: what must hold, what was found, the nearest valid choice."""

from typing import Any

from pydantic import BaseModel, ValidationError

from mbcompress.errors import SpecError, unknown


def first_problem(error: ValidationError, model: type[BaseModel]) -> SpecError:
    """The first finding, with its path inside the options of `model`."""
    finding = error.errors(include_url=False)[0]
    path = tuple(part for part in finding["loc"] if not _is_union_branch(part))
    if finding["type"] == "extra_forbidden":
        fields = _fields_at(model, path[:-1])
        return SpecError(path, unknown("option", path[-1], fields), at_key=True)
    if finding["type"] == "missing":
        return SpecError(path[:-1], f"{path[-1]!r} is missing")
    return SpecError(path, _sentence(finding["type"], finding["msg"], finding["input"], finding.get("ctx", {})))


def _sentence(kind: str, message: str, found: object, context: dict[str, Any]) -> str:
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    if kind == "literal_error":
        return f"must be {context['expected']}, got {found!r}"
    text = message.replace("Input should be", "must be").replace("a valid ", "a ")
    return f"{text[0].lower()}{text[1:]}, got {found!r}"


def _is_union_branch(part: int | str) -> bool:
    """Pydantic names the branch of a union in the path: 'literal[...]', 'function-before[...]'."""
    return isinstance(part, str) and "[" in part


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
