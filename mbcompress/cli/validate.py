"""`mbcompress validate RECIPE`: say whether a recipe would run, without running it."""

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
    """Resolve the recipe and describe the plan in a line."""
    plan, _ = read_plan(options)
    model = plan.model.name if plan.model else "a module"
    chain = " -> ".join([model, *(step.name for step in plan.passes), *(runtime.name for runtime in plan.export)])
    print(f"{options.recipe}: fine: {chain}")
    return 0
