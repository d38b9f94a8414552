"""`mbcompress passes`: what is installed, where it comes from, and every option with its type and default."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic_core import to_jsonable_python

from mbcompress.cli.installed import add_block_argument, registry_for, report_broken
from mbcompress.errors import MbcompressError, unknown

if TYPE_CHECKING:
    import argparse

    from pydantic.fields import FieldInfo

    from mbcompress.contract.options import Component
    from mbcompress.registry.registry import Kind, Origin


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "passes", help="list passes, models, datasets, runtimes and metrics with their options", description=__doc__
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="show this component only, with its options")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    add_block_argument(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """List everything, or one component."""
    registry = registry_for(options)
    report_broken(registry)
    components = [entry for kind in registry.kinds for entry in _entries(kind)]
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


def _entries(kind: Kind[Any]) -> list[dict[str, Any]]:
    return [_entry(kind.name, cls, origin) for cls, origin in kind]


def _entry(kind: str, cls: type[Component], origin: Origin) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": cls.name,
        "summary": cls.summary(),
        "distribution": origin.distribution,
        "version": origin.version,
        "options": [_option(name, field) for name, field in cls.model_fields.items()],
    }


def _option(name: str, field: FieldInfo) -> dict[str, Any]:
    described = {"name": name, "type": _type(field.annotation)}
    if not field.is_required():
        default = field.get_default(call_default_factory=True)
        described["default"] = to_jsonable_python(default, fallback=str, serialize_unknown=True)
    return {**described, "range": _range(field), "description": field.description or ""}


def _type(annotation: Any) -> str:
    """An annotation as a reader of recipes would write it: `'l1' | 'l2'`, `float | null`."""
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
    return str(getattr(annotation, "__name__", annotation))


def _range(field: FieldInfo) -> str:
    """'>= 0, < 1' from the field's bounds."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    bounds = ((sign, getattr(bound, name, None)) for bound in field.metadata for name, sign in signs.items())
    return ", ".join(f"{sign} {limit:g}" for sign, limit in bounds if limit is not None)


def _print(entry: dict[str, Any]) -> None:
    print(f"{entry['kind']} {entry['name']}  ({entry['distribution']} {entry['version']})")
    print(f"    {entry['summary']}")
    for option in entry["options"]:
        default = f" = {json.dumps(option['default'])}" if "default" in option else " (required)"
        limits = f"  [{option['range']}]" if option["range"] else ""
        print(f"    {option['name']}: {option['type']}{default}{limits}")
        print(textwrap.fill(option["description"], 110, initial_indent=" " * 8, subsequent_indent=" " * 8))
    print()
