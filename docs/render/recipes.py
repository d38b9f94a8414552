"""docs/recipes.md, from the JSON Schema of recipes with the built-in components."""

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

A recipe is a YAML file with the keys below. It is checked completely before anything is computed:
`mbcompress validate RECIPE` reports the first mistake with its line and column. A recipe names components: this page
lists the built-in ones, `mbcompress passes` the installed ones.

## Editors

`mbcompress schema --out recipe.schema.json` writes a JSON Schema (2020-12) of recipes with all installed components. An
editor with yaml-language-server (VS Code with its YAML extension, Neovim, Emacs and others; tested with 1.25) completes
and checks a recipe whose first line names the schema's path, relative to the recipe:

```yaml
# yaml-language-server: $schema=recipe.schema.json
```

The schema is slightly stricter than mbcompress: it refuses a number in quotes, and a recipe without `model` or `data`,
which `mbcompress.compress` accepts if the program provides them. The order of passes and the existence of files are
checked by `mbcompress validate` only."""


def page() -> str:
    """The keys, then every component with its options, then the groups of options that components share."""
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
    if groups := list(writer.groups()):
        sections += ["## Groups of options", "Options that components hold as a group, as in `training: {epochs: 3}`."]
    for name, definition in groups:
        sections += [f"### {name}", definition.get("description", ""), writer.options(definition)]
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
        (f"`{key}`", writer.default(value, required=key in required, absent="every default"), value["description"])
        for key, value in schema["properties"].items()
    ]
    yield table(["key", "default", "meaning"], rows)
    for key, value in schema["properties"].items():
        if "anyOf" in value:
            yield f"### `{key}`"
            yield writer.options(writer.definitions[_group(value)])


class _Writer:
    """Writes tables of options, and remembers the groups that they refer to."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self.definitions = definitions
        self.by_title = {item["title"]: item for item in definitions.values() if "title" in item}
        self.used: list[str] = []

    def component(self, kind: str, cls: type[Component]) -> Iterator[str]:
        """Its description, its traits, and a table of its options."""
        definition = self.by_title[f"{kind} {cls.name}"]
        yield inspect.cleandoc(definition["description"])
        if issubclass(cls, Pass):
            groups = {"Requires": cls.requires, "provides": cls.provides, "destroys": cls.destroys}
            yield "; ".join(f"{word} {_traits(traits)}" for word, traits in groups.items()) + "."
        yield self.options(definition)

    def options(self, definition: Schema) -> str:
        """A table of options, without the key that names the component."""
        required = definition.get("required", [])
        rows = [
            (
                f"`{name}`",
                self.type(option),
                ", ".join(_bounds(option)),
                self.default(option, required=name in required),
                option.get("description", ""),
            )
            for name, option in definition.get("properties", {}).items()
            if not (name in ("source", "name") and "const" in option)
        ]
        return table(HEAD, rows) if rows else "It has no options."

    def groups(self) -> Iterator[tuple[str, Schema]]:
        """The groups that options refer to, as `training` does; a group's own options may refer to more."""
        for key in self.used:  # grows while the groups are written
            yield key, self.definitions[key]

    def default(self, option: Schema, *, required: bool, absent: str = "see meaning") -> str:
        """The default as JSON; of a group, only what differs from the group's own defaults.

        A computed default, as a folder of the user, is not in the schema and not shown.
        """
        if required:
            return "required"
        if "default" not in option:
            return absent
        default = option["default"]
        if isinstance(default, dict) and (group := _group(option)):
            own = self.definitions[group]["properties"]
            default = {name: value for name, value in default.items() if value != own.get(name, {}).get("default")}
            return f"`{json.dumps(default)}`" if default else "every default"
        return f"`{json.dumps(default)}`"

    def type(self, option: Schema) -> str:
        """The type in words."""
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


def _group(option: Schema) -> str:
    """The key of the group that an option or one of its alternatives refers to; empty if there is none."""
    references = [branch["$ref"] for branch in (option, *option.get("anyOf", [])) if "$ref" in branch]
    return references[0].removeprefix(PREFIX) if references else ""


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


def _traits(traits: frozenset[Trait]) -> str:
    return ", ".join(f"`{trait}`" for trait in sorted(traits)) or "nothing"
