"""`mbcompress passes`: list the installed components with all options, their types, bounds and defaults."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic_core import to_jsonable_python

from mbcompress.cli.installed import add_block_argument, registry_for, report_broken
from mbcompress.contract.options import Component, Options
from mbcompress.contract.validation import listed_fields, nested_options
from mbcompress.errors import MbcompressError, unknown

if TYPE_CHECKING:
    import argparse

    from pydantic.fields import FieldInfo

    from mbcompress.registry.registry import Origin

REQUIRED = object()
"""Marks an option without a default."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "passes", help="list passes, models, datasets, runtimes and metrics with their options", description=__doc__
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="show only this component")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    add_block_argument(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """List all components, or one."""
    registry = registry_for(options)
    report_broken(registry)
    components = [_entry(kind.name, cls, origin) for kind in registry.kinds for cls, origin in kind]
    if options.name:
        chosen = [entry for entry in components if entry["name"] == options.name]
        if not chosen:
            raise MbcompressError(unknown("component", options.name, (entry["name"] for entry in components)))
        components = chosen
    if options.json:
        json.dump(components, sys.stdout, indent=2)
        print()
        return 0
    for entry in components:
        _print(entry)
    return 0


def _entry(kind: str, cls: type[Component], origin: Origin) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": cls.name,
        "summary": cls.summary(),
        "distribution": origin.distribution,
        "version": origin.version,
        "options": [_option(name, field, _default(field)) for name, field in listed_fields(cls).items()],
    }


def _default(field: FieldInfo) -> Any:
    return REQUIRED if field.is_required() else field.get_default(call_default_factory=True)


def _option(name: str, field: FieldInfo, default: Any) -> dict[str, Any]:
    """Describe an option; nested options are included with the defaults that the component sets."""
    option: dict[str, Any] = {"name": name, "type": _type(field.annotation)}
    if default is not REQUIRED:
        option["default"] = to_jsonable_python(default, fallback=str, serialize_unknown=True)
    option |= {"range": _range(field), "description": field.description or ""}
    if group := nested_options(field):
        set_here = default if isinstance(default, group) else None
        option["options"] = [
            _option(inner, inner_field, getattr(set_here, inner) if set_here else _default(inner_field))
            for inner, inner_field in listed_fields(type(set_here) if set_here else group).items()
        ]
    return option


def _type(annotation: Any) -> str:
    """Format an annotation in recipe syntax: `'l1' | 'l2'`, `float | null`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is NoneType:
        return "null"
    if origin is Annotated:
        return _type(arguments[0])
    if origin in (Union, UnionType):
        return " | ".join(_type(argument) for argument in arguments)
    if origin is Literal:
        return " | ".join(repr(argument) for argument in arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "mapping"
    if origin is not None and arguments:
        return f"list of {_type(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, Options) and not issubclass(annotation, Component):
        return "options"
    return str(getattr(annotation, "__name__", annotation))


def _range(field: FieldInfo) -> str:
    """Format the field's bounds: '>= 0, < 1'."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    bounds = ((sign, getattr(bound, name, None)) for bound in field.metadata for name, sign in signs.items())
    return ", ".join(f"{sign} {limit:g}" for sign, limit in bounds if limit is not None)


def _print(entry: dict[str, Any]) -> None:
    print(f"{entry['kind']} {entry['name']}  ({entry['distribution']} {entry['version']})")
    print(f"    {entry['summary']}")
    for option in entry["options"]:
        _print_option(option, " " * 4)
    print()


def _print_option(option: dict[str, Any], indent: str) -> None:
    group = option.get("options", [])
    if group and option.get("default") is not None:
        default = ""  # the nested options show their own
    else:
        default = f" = {json.dumps(option['default'])}" if "default" in option else " (required)"
    limits = f"  [{option['range']}]" if option["range"] else ""
    print(f"{indent}{option['name']}: {option['type']}{default}{limits}")
    margin = f"{indent}    "
    print(textwrap.fill(option["description"], 110, initial_indent=margin, subsequent_indent=margin))
    for inner in group:
        _print_option(inner, margin)
