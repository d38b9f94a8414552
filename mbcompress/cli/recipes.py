"""The recipe arguments of `run` and `validate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mbcompress import recipe as recipes
from mbcompress.cli.installed import add_block_argument, registry_for

if TYPE_CHECKING:
    import argparse

    from mbcompress.registry.discovery import Registry


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Add RECIPE, -o and --block."""
    add_block_argument(parser)
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="a YAML file")
    parser.add_argument(
        "-o",
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a value of the recipe, for example passes.prune.target_macs=0.4; can be repeated",
    )


def read_plan(options: argparse.Namespace) -> tuple[recipes.Recipe, Registry]:
    """Read, override and resolve the recipe."""
    document = recipes.override(recipes.read(options.recipe), options.override)
    registry = registry_for(options)
    return recipes.resolve(document, registry), registry
