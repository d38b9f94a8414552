"""What `run` and `validate` share: the recipe, its overrides, and the way to a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mbcompress import recipe as recipes
from mbcompress.errors import RecipeError
from mbcompress.host import Catalogue, discover

if TYPE_CHECKING:
    import argparse


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """RECIPE and -o."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="a YAML file")
    parser.add_argument(
        "-o",
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a value of the recipe, for example passes.prune.target_macs=0.4; may be repeated",
    )


def read_plan(options: argparse.Namespace) -> tuple[recipes.Plan, Catalogue]:
    """Read, override and resolve; where a plugin is broken, an unknown name may be its, so the error says so."""
    document = recipes.override(recipes.read(options.recipe), options.override)
    catalogue = discover()
    try:
        return recipes.resolve(document, catalogue), catalogue
    except RecipeError as error:
        if catalogue.broken and "unknown" in error.problem:
            reasons = "; ".join(f"{broken.origin} could not be used: {broken.reason}" for broken in catalogue.broken)
            raise RecipeError(error.location, f"{error.problem}; note that {reasons}") from None
        raise
