"""A JSON Schema (2020-12) of recipes, so that editors complete and check them. Imports no torch.

It knows what is installed here: every component of the registry, with every option's type, range, default and
description. What a schema cannot say, such as which order of passes works or whether a file
exists, is left to `mbcompress validate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from mbcompress.contract.models import ModelSource
from mbcompress.recipe.plan import Budget, Measure
from mbcompress.recipe.resolve import MAX_SEED

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import CoreSchema

    from mbcompress.contract.options import Component
    from mbcompress.registry.registry import Kind, Registry

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PREFIX = "#/$defs/"

Schema = dict[str, Any]


class _Generator(GenerateJsonSchema):
    """Pydantic's schemas without titles made of names; a type that JSON does not know may be anything."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012  # as the base class has it

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def handle_invalid_for_json_schema(self, schema: CoreSchema, error_info: str) -> Schema:
        return {}


def recipe_schema(registry: Registry) -> Schema:
    """The schema of a recipe file that names components of `registry`."""
    definitions, references = _definitions(registry)
    # where an option takes a model, as `teacher` does, any source may stand
    definitions[_key(references[ModelSource])] = _any_of(registry.models, references)
    for kind, key in ((registry.models, "source"), (registry.datasets, "name")):
        for cls, _ in kind:
            _add_name(definitions[_key(references[cls])], key, cls.name)
    return {
        "$schema": DIALECT,
        "title": "mbcompress recipe",
        "type": "object",
        "required": ["model", "data", "passes"],
        "additionalProperties": False,
        "properties": {
            "model": {"description": "What is compressed: `source` and its options.", **references[ModelSource]},
            "data": {
                "description": "Labelled images: `name` and its options.",
                **_any_of(registry.datasets, references),
            },
            "passes": {
                "description": "What is done to the model, in this order.",
                **_list_of(registry.passes, references, definitions),
            },
            "export": {
                "description": "Runtimes to write the result for and to measure it in.",
                "default": ["onnx"],
                "minItems": 1,
                "uniqueItems": True,
                **_list_of(registry.runtimes, references, definitions),
            },
            "metrics": {
                "description": "What to measure beside accuracy on what the exported files answer.",
                "default": [],
                "uniqueItems": True,
                **_list_of(registry.metrics, references, definitions),
            },
            "measure": {"description": Measure.__doc__, **_or_null(references[Measure])},
            "budget": {"description": Budget.__doc__, **_or_null(references[Budget])},
            "seed": {
                "description": "Fixes the order of batches and every random choice of the passes; which image is in "
                "which split is the dataset's 'split_seed'.",
                "default": 0,
                "type": "integer",
                "minimum": 0,
                "maximum": MAX_SEED,
            },
        },
        "$defs": definitions,
    }


def _definitions(registry: Registry) -> tuple[dict[str, Schema], dict[type, Schema]]:
    """A schema for the options of every component, by key, and `{"$ref": …}` for every class."""
    components: list[type[Component]] = [cls for kind in registry.kinds for cls, _ in kind]
    asked: list[type[BaseModel]] = [*components, ModelSource, Measure, Budget]
    references, schema = models_json_schema(
        [(cls, "validation") for cls in asked],
        ref_template=f"{PREFIX}{{model}}",
        schema_generator=_Generator,
    )
    definitions: dict[str, Schema] = schema["$defs"]
    for kind in registry.kinds:
        for cls, _ in kind:
            definitions[_key(references[cls, "validation"])]["title"] = f"{kind.name} {cls.name}"
    return definitions, {cls: reference for (cls, _), reference in references.items()}


def _key(reference: Schema) -> str:
    return str(reference["$ref"]).removeprefix(PREFIX)


def _add_name(definition: Schema, key: str, name: str) -> None:
    """Options become `{source: NAME, …options}`."""
    definition["properties"] = {key: {"const": name}, **definition.get("properties", {})}
    definition["required"] = [key, *definition.get("required", [])]


def _any_of(kind: Kind[Any], references: dict[type, Schema]) -> Schema:
    choices = [references[cls] for cls, _ in kind]
    return {"anyOf": choices} if choices else {"not": {}}  # an empty list is no valid schema


def _list_of(kind: Kind[Any], references: dict[type, Schema], definitions: dict[str, Schema]) -> Schema:
    """A list of `name` (where no option is required) and `name: {option: value}`."""
    plain = [cls.name for cls, _ in kind if not _has_required_options(cls)]
    named = {cls.name: _entry(cls, references[cls], definitions) for cls, _ in kind}
    with_options = {
        "type": "object",
        "properties": named,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {"type": "array", "items": {"anyOf": [*({"const": name} for name in plain), with_options]}}


def _entry(cls: type[Component], reference: Schema, definitions: dict[str, Schema]) -> Schema:
    options = reference if _has_required_options(cls) else _or_null(reference)
    return {"description": definitions[_key(reference)].get("description", ""), **options}


def _has_required_options(cls: type[Component]) -> bool:
    return any(field.is_required() for field in cls.model_fields.values())


def _or_null(reference: Schema) -> Schema:
    return {"anyOf": [reference, {"type": "null"}]}
