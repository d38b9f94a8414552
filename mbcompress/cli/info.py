"""`mbcompress info PATH`: describe an artifact, its size and how it was made."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

WIDTH, ROWS = 110, 12


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "info", help="describe a run, a pass, a model file or zoo weights", description=__doc__
    )
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a run directory, a pass directory, a .onnx or .safetensors file, a PyTorch checkpoint, or zoo:NAME",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON on standard output")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Describe one artifact."""
    from mbcompress.info import describe_artifact
    from mbcompress.registry.discovery import discover

    described = describe_artifact(options.path, discover())
    if options.json:
        json.dump(described, sys.stdout, indent=2)
        print()
    else:
        for line in render(described):
            # names from files must not reach the terminal as escape sequences
            print("".join(character if character.isprintable() else " " for character in line))
    return 0


def render(described: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield lines of text: short mappings on one line, lists of mappings as tables; empty values are omitted."""
    for key, value in described.items():
        label = f"{indent}{key.replace('_', ' ')}:"
        if value in (None, "", [], {}):
            continue
        if isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
            yield label
            yield from (f"{indent}  {line}" for line in _table(value))
        elif isinstance(value, Mapping) and (len(_inline(value)) + len(label) > WIDTH or _has_tables(value)):
            yield label
            yield from render(value, f"{indent}  ")
        else:
            yield f"{label} {_cut(_inline(value))}"


def _has_tables(mapping: Mapping[str, Any]) -> bool:
    return any(isinstance(value, list) and value and isinstance(value[0], Mapping) for value in mapping.values())


def _table(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[key.replace("_", " ") for key in columns]]
    cells += [[_inline(row.get(key)) for key in columns] for row in rows[:ROWS]]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    for row in cells:
        yield _cut("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if len(rows) > ROWS:
        yield f"… and {len(rows) - ROWS} more; --json has all"


def _inline(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
        case list() | dict() if not value:
            return "none"
        case list():
            return " x ".join(map(_inline, value)) if _is_shape(value) else ", ".join(map(_inline, value))
        case Mapping():
            return ", ".join(f"{key.replace('_', ' ')} {_inline(each)}" for key, each in value.items())
    return str(value)


def _is_shape(value: list[Any]) -> bool:
    return len(value) > 1 and isinstance(value[-1], int) and all(isinstance(each, int | str) for each in value)


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
