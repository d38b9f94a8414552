"""`mbcompress validate RECIPE`: check a recipe without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbcompress.cli.recipes import add_recipe_arguments, read_plan

if TYPE_CHECKING:
    import argparse


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("validate", help="check a recipe without running it", description=__doc__)
    add_recipe_arguments(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Resolve the recipe and print model, passes and runtimes on one line."""
    recipe, _ = read_plan(options)
    model = recipe.model.name if recipe.model else "a module"
    chain = " -> ".join([model, *(component.name for component in (*recipe.passes, *recipe.export))])
    print(f"{options.recipe}: fine: {chain}")
    return 0
