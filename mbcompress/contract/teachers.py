"""Option types that name teacher models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

from mbcompress.contract.models import ModelSource
from mbcompress.contract.options import Options
from mbcompress.errors import PathPart, SpecError, shown


def _build_teacher(value: object, info: ValidationInfo) -> object:
    if isinstance(value, ModelSource) or value == "baseline":
        return value
    if not isinstance(value, Mapping):
        raise SpecError((), f"must be 'baseline' or a model like {{source: …, weights: …}}, got {shown(value)}")
    if not info.context:
        raise SpecError((), "must be a ModelSource object here, or 'baseline'")
    return info.context["registry"].build_model(value)


def _build_teachers(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, list | tuple) or not value:
        return _build_teacher(value, info)
    teachers = []
    for index, item in enumerate(value):
        try:
            teachers.append(_build_teacher(item, info))
        except SpecError as error:
            raise error.under(index) from None
    return tuple(teachers)


def _dump_teacher(value: ModelSource | str) -> object:
    return value if isinstance(value, str) else {"source": value.name, **value.as_written()}


def _dump_teachers(value: ModelSource | str | tuple[ModelSource | str, ...]) -> object:
    return [_dump_teacher(item) for item in value] if isinstance(value, tuple) else _dump_teacher(value)


Teacher = Annotated[
    Literal["baseline"] | ModelSource, BeforeValidator(_build_teacher), PlainSerializer(_dump_teacher, return_type=Any)
]
"""Type of an option that names a teacher: `baseline`, the model as loaded, or `{source: …}` as in `model:`."""


Teachers = Annotated[
    Literal["baseline"] | ModelSource | tuple[Literal["baseline"] | ModelSource, ...],
    BeforeValidator(_build_teachers),
    PlainSerializer(_dump_teachers, return_type=Any),
]
"""Type of an option that names one teacher, or a list of teachers for an ensemble."""


def teachers_in(options: Options) -> Iterator[tuple[tuple[PathPart, ...], ModelSource | str]]:
    """Yield every teacher in the options, including nested options, with its path."""
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        if isinstance(value, Options) and not isinstance(value, ModelSource):
            yield from (((name, *path), teacher) for path, teacher in teachers_in(value))
        elif isinstance(value, ModelSource) or (value == "baseline" and ModelSource in _types_in(field.annotation)):
            yield (name,), value
        elif isinstance(value, tuple) and ModelSource in _types_in(field.annotation):
            yield from (((name, index), item) for index, item in enumerate(value))


def _types_in(annotation: Any) -> set[Any]:
    """All types in an annotation, at any depth."""
    return {annotation}.union(*(_types_in(argument) for argument in get_args(annotation)))
