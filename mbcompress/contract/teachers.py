"""Option types that name teacher models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

from mbcompress.contract.models import ModelSource
from mbcompress.contract.options import Options
from mbcompress.errors import SpecError, shown


def _resolve_source(value: object, info: ValidationInfo) -> object:
    if isinstance(value, ModelSource) or value == "baseline":
        return value
    if not isinstance(value, Mapping):
        raise SpecError((), f"must be 'baseline' or a model like {{source: …, weights: …}}, got {shown(value)}")
    if not info.context:
        raise SpecError((), "a model must be given as a ModelSource object here")
    return info.context["registry"].build_model(value)


def _resolve_sources(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, list | tuple) or not value:
        return _resolve_source(value, info)
    sources = []
    for index, each in enumerate(value):
        try:
            sources.append(_resolve_source(each, info))
        except SpecError as error:
            raise error.under(index) from None
    return tuple(sources)


def _dump_source(value: ModelSource | str) -> object:
    return value if isinstance(value, str) else {"source": value.name, **value.as_written()}


def _dump_sources(value: ModelSource | str | tuple[ModelSource | str, ...]) -> object:
    return [_dump_source(each) for each in value] if isinstance(value, tuple) else _dump_source(value)


Teacher = Annotated[
    Literal["baseline"] | ModelSource, BeforeValidator(_resolve_source), PlainSerializer(_dump_source, return_type=Any)
]
"""Type of an option that names a teacher: `baseline`, the model as it was loaded, or `{source: …}` like `model:`."""


Teachers = Annotated[
    Literal["baseline"] | ModelSource | tuple[Literal["baseline"] | ModelSource, ...],
    BeforeValidator(_resolve_sources),
    PlainSerializer(_dump_sources, return_type=Any),
]
"""Type of an option that names a teacher or a list of them, an ensemble."""


def teachers_in(options: Options) -> Iterator[tuple[tuple[str | int, ...], ModelSource | str]]:
    """Every teacher that the options name, however deep, with the path to it."""
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        if isinstance(value, ModelSource) or (value == "baseline" and ModelSource in _alternatives(field.annotation)):
            yield (name,), value
        elif isinstance(value, tuple) and ModelSource in _alternatives(field.annotation):
            yield from (((name, index), each) for index, each in enumerate(value))
        elif isinstance(value, Options):
            yield from (((name, *path), teacher) for path, teacher in teachers_in(value))


def _alternatives(annotation: Any) -> set[Any]:
    """The types in a union, however deep."""
    return {annotation}.union(*(_alternatives(argument) for argument in get_args(annotation)))
