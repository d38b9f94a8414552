"""docs/recipes.md, from the JSON Schema of recipes with what mbcompress itself installs."""

from __future__ import annotations

import inspect
import json
import sys
from typing import TYPE_CHECKING, Any

from mbcompress.contract.models import ModelSource
from mbcompress.contract.passes import Pass
from mbcompress.recipe.schema import PREFIX, recipe_schema
from mbcompress.registry.discovery import discover
from render.markdown import anchor, notice, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mbcompress.contract.options import Component
    from mbcompress.contract.traits import Trait
    from mbcompress.registry.registry import Registry

Schema = dict[str, Any]
BUILT_IN = "mbcompress"
HEAD = ["option", "type", "range", "default", "meaning"]
WORDS = {
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "string": "text",
    "object": "mapping",
    "null": "null",
}
SIGNS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
INTRODUCTION = """\
# Recipes

A recipe is a YAML file with the keys below. It is checked as a whole before anything is computed:
`mbcompress validate RECIPE` says what is wrong and where. Everything that can be named in a recipe is a component; this
page lists those that come with mbcompress, `mbcompress passes` those that are installed.

## Editors

`mbcompress schema --out recipe.schema.json` writes a JSON Schema (2020-12) of recipes with all that is installed. An
editor that runs yaml-language-server (VS Code with its YAML extension, Neovim, Emacs and others; tried with 1.25)
completes and checks a recipe whose first line says where the schema is, relative to the recipe:

```yaml
# yaml-language-server: $schema=recipe.schema.json
```

The schema is a little stricter than mbcompress: it refuses a number in quotes, and a recipe without `model` or `data`,
which `mbcompress.compress` takes where the program brings them. Which order of passes works, and whether files exist,
only `mbcompress validate` can say."""


def page() -> str:
    """Keys, then every component with every option."""
    registry = _built_in(discover())
    schema = recipe_schema(registry)
    writer = _Writer(schema["$defs"])
    sections = [notice("the JSON Schema of recipes"), INTRODUCTION, *_keys(schema, writer)]
    kinds = (
        ("Model sources", "`model: {source: NAME, …}`", registry.models),
        ("Datasets", "`data: {name: NAME, …}`", registry.datasets),
        ("Passes", "Entries of `passes:`, as `NAME` or `NAME: {option: value}`", registry.passes),
        ("Runtimes", "Entries of `export:`, as `NAME` or `NAME: {option: value}`", registry.runtimes),
        ("Metrics", "Entries of `metrics:`, as `NAME` or `NAME: {option: value}`", registry.metrics),
    )
    for heading, form, kind in kinds:
        sections += [f"## {heading}", f"{form}."]
        for cls, origin in kind:
            sections += [
                f"### {kind.name} `{cls.name}`",
                *writer.component(kind.name, cls),
                f"Distribution: {origin.distribution}.",
            ]
    for heading, definition in writer.shared():
        sections += [f"## {heading}", definition.get("description", ""), writer.options(definition)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _built_in(registry: Registry) -> Registry:
    """The registry without third-party plugins; a broken built-in plugin is an error."""
    for broken in registry.broken:
        if broken.origin.distribution == BUILT_IN:
            sys.exit(f"{broken.origin}: {broken.reason}")
    for kind in registry.kinds:
        foreign = [name for name, origin in kind.origins.items() if origin.distribution != BUILT_IN]
        for name in foreign:
            del kind.classes[name], kind.origins[name]
    return registry


def _keys(schema: Schema, writer: _Writer) -> Iterator[str]:
    yield "## Keys"
    required = schema["required"]
    rows = [
        (f"`{key}`", _default(each, required=key in required, absent="every default"), each["description"])
        for key, each in schema["properties"].items()
    ]
    yield table(["key", "default", "meaning"], rows)
    for key, each in schema["properties"].items():
        references = [
            branch["$ref"] for branch in each.get("anyOf", []) if {"type": "null"} in each["anyOf"] and "$ref" in branch
        ]
        if references:
            yield f"### `{key}`"
            yield writer.options(writer.definitions[references[0].removeprefix(PREFIX)])


class _Writer:
    """Writes options, and remembers which groups of options are used inside others."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self.definitions = definitions
        self.by_title = {each["title"]: each for each in definitions.values() if "title" in each}
        self.used: list[str] = []

    def component(self, kind: str, cls: type[Component]) -> Iterator[str]:
        """What it is, what it needs, and a table of its options."""
        definition = self.by_title[f"{kind} {cls.name}"]
        yield inspect.cleandoc(definition["description"])
        if issubclass(cls, Pass):
            groups = {"Requires": cls.requires, "provides": cls.provides, "destroys": cls.destroys}
            yield "; ".join(f"{word} {_traits(traits)}" for word, traits in groups.items()) + "."
        yield self.options(definition)

    def options(self, definition: Schema) -> str:
        """A table of options; the name that a recipe gives them together is none."""
        required = definition.get("required", [])
        rows = [
            (
                f"`{name}`",
                self.type(option),
                ", ".join(_bounds(option)),
                _default(option, required=name in required),
                option.get("description", ""),
            )
            for name, option in definition.get("properties", {}).items()
            if not (name in ("source", "name") and "const" in option)
        ]
        return table(HEAD, rows) if rows else "It has no options."

    def shared(self) -> Iterator[tuple[str, Schema]]:
        """Groups of options that other options hold, as `recovery` of `prune` does."""
        for key in self.used:
            yield key, self.definitions[key]

    def type(self, option: Schema) -> str:
        """What may stand there, in words."""
        if "$ref" in option:
            return self._link(option["$ref"].removeprefix(PREFIX))
        if "anyOf" in option:
            return " or ".join(self.type(branch) for branch in option["anyOf"])
        if "enum" in option or "const" in option:
            return " or ".join(f"`{value}`" for value in option.get("enum", [option.get("const")]))
        kind = option.get("type")
        if kind == "array":
            items = option.get("items", {})
            return f"list of {_plural(self.type(items))}" if items else "list"
        if kind == "string" and option.get("format") == "path":
            return "path"
        return WORDS.get(str(kind), "anything")

    def _link(self, key: str) -> str:
        if key == ModelSource.__name__:
            return "[model](#model-sources)"
        if key not in self.used:
            self.used.append(key)
        return f"[{key}](#{anchor(key)})"


def _plural(words: str) -> str:
    return f"{words}s" if words.endswith(("number", "path")) else words


def _bounds(option: Schema) -> Iterator[str]:
    for key, sign in SIGNS.items():
        if key in option:
            yield f"{sign} {option[key]:g}" if abs(option[key]) < 1e6 else f"{sign} {option[key]}"
    if "minItems" in option:
        yield f"≥ {option['minItems']} entries"
    if "maxItems" in option:
        yield f"≤ {option['maxItems']} entries"
    for branch in option.get("anyOf", []):
        yield from _bounds(branch)
    for bound in _bounds(option.get("items", {})) if isinstance(option.get("items"), dict) else ():
        yield f"each {bound}"


def _default(option: Schema, *, required: bool, absent: str = "see meaning") -> str:
    """A default that is computed, as folders of the user's are, is not in the schema and not shown."""
    if required:
        return "required"
    return f"`{json.dumps(option['default'])}`" if "default" in option else absent


def _traits(traits: frozenset[Trait]) -> str:
    return ", ".join(f"`{trait}`" for trait in sorted(traits)) or "nothing"
