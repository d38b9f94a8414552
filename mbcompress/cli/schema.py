"""`mbcompress schema`: print a JSON Schema of recipes, for editors, with every installed component."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mbcompress.cli.installed import add_block_argument, registry_for, report_broken

if TYPE_CHECKING:
    import argparse


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("schema", help="print a JSON Schema of recipes, for editors", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE", help="output file (default: standard output)")
    add_block_argument(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print or write the schema; broken plugins are reported and omitted."""
    from mbcompress.recipe.schema import recipe_schema

    registry = registry_for(options)
    report_broken(registry)
    schema = recipe_schema(registry)
    if options.out is None:
        json.dump(schema, sys.stdout, indent=2)
        print()
        return 0
    from mbcompress.files import write_json

    write_json(options.out, schema)
    return 0
