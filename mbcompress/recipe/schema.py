"""The JSON Schema (2020-12) of recipes, for completion and checks in editors. Does not import torch.

Generated from the `Recipe` model and the options of all installed components. `mbcompress validate` also checks what a
schema cannot express, such as the order of passes or whether a file exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from mbcompress.contract.validation import listed_fields
from mbcompress.recipe.model import Recipe

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

    from mbcompress.contract.options import Component, Options
    from mbcompress.registry.registry import Kind, Registry

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PREFIX = "#/$defs/"

Schema = dict[str, Any]


class _Generator(GenerateJsonSchema):
    """Generates schemas without field titles; types that JSON lacks allow any value."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012  # as the base class has it

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def handle_invalid_for_json_schema(self, schema: CoreSchema, error_info: str) -> Schema:
        return {}


def recipe_schema(registry: Registry) -> Schema:
    """Return the schema of recipes with the components of `registry`."""
    classes: list[type[Options]] = [Recipe, *(kind.base for kind in registry.kinds)]
    classes += [cls for kind in registry.kinds for cls, _ in kind]
    references, schema = models_json_schema(
        [(cls, "validation") for cls in classes],
        ref_template=f"{PREFIX}{{model}}",
        schema_generator=_Generator,
    )
    definitions: dict[str, Schema] = schema["$defs"]
    keys = {cls: str(reference["$ref"]).removeprefix(PREFIX) for (cls, _), reference in references.items()}
    for kind in registry.kinds:  # the base class stands for any installed component
        for cls, _ in kind:
            _complete(definitions[keys[cls]], cls, kind)
        definitions[keys[kind.base]] = _any_of(kind, {cls: definitions[keys[cls]] for cls, _ in kind}, keys)
    return {"$schema": DIALECT, **definitions.pop(keys[Recipe]), "title": "mbcompress recipe", "$defs": definitions}


def _complete(definition: Schema, cls: type[Component], kind: Kind[Any]) -> None:
    """Add a title, listing order and, for `{source: NAME, …}`, the name key to a component's schema."""
    definition["title"] = f"{kind.name} {cls.name}"
    properties = definition.get("properties", {})
    definition["properties"] = {
        # pydantic omits the description of nested options if it equals that of their class
        name: {"description": field.description or "", **properties[name]}
        for name, field in listed_fields(cls).items()
    }
    if kind.key:
        definition["properties"] = {kind.key: {"const": cls.name}, **definition["properties"]}
        definition["required"] = [kind.key, *definition.get("required", [])]


def _any_of(kind: Kind[Any], definitions: dict[type[Component], Schema], keys: dict[Any, str]) -> Schema:
    """Return the schema of a component: `{source: NAME, …}`, or `NAME` and `NAME: {option: value}`."""
    references = {cls: {"$ref": f"{PREFIX}{keys[cls]}"} for cls in definitions}
    if not references:
        return {"not": {}}  # `anyOf: []` is not a valid schema
    if kind.key:
        return {"anyOf": list(references.values())}
    optional = [cls for cls in definitions if not definitions[cls].get("required")]
    named = {
        cls.name: {
            "description": definitions[cls].get("description", ""),
            **({"anyOf": [reference, {"type": "null"}]} if cls in optional else reference),
        }
        for cls, reference in references.items()
    }
    with_options = {
        "type": "object",
        "properties": named,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {"anyOf": [*({"const": cls.name} for cls in optional), with_options]}
