"""`mbcompress run RECIPE`: run a recipe, export, measure and report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mbcompress.cli.allocator import keep_freed_memory
from mbcompress.cli.recipes import add_recipe_arguments, read_plan
from mbcompress.pipeline.processes import behind_main, is_main

if TYPE_CHECKING:
    import argparse

    from mbcompress.pipeline.launch import Result


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("run", help="run a recipe, export, measure and report", description=__doc__)
    add_recipe_arguments(parser)
    add_run_arguments(parser)
    parser.add_argument("--no-cache", action="store_true", help="compute all passes and do not cache them")
    parser.add_argument("--json", action="store_true", help="print only report.json on standard output")
    parser.set_defaults(execute=execute)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --out, --device and --quiet."""
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="run directory, new or empty (default: runs/RECIPE-DATE-TIME)"
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="device of the passes; files are measured on the CPU (default: auto)",
    )
    parser.add_argument("--quiet", action="store_true", help="print only errors, no progress and no table")


def execute(options: argparse.Namespace) -> int:
    """Run, print the result, and return 3 if a limit was missed; only the main process returns."""
    with behind_main(), keep_freed_memory():
        plan, registry = read_plan(options)
        from mbcompress.cli.console import front
        from mbcompress.pipeline.launch import launch

        shown = is_main() and not (options.quiet or options.json)
        result = launch(plan, registry, options.out, options.device, front(shown=shown), cache=not options.no_cache)
    if options.json:
        json.dump(result.report, sys.stdout, indent=2)
        print()
    elif not options.quiet:
        _show(result)
    return _verdict(result)


def _show(result: Result) -> None:
    from rich.console import Console

    from mbcompress.report.summary import summary_table

    console = Console()
    console.print(summary_table(result.report))
    for label, path in (("model", result.artifacts[0]), ("report", result.path / "report.html")):
        console.print(f"{label:>7}: {path}", highlight=False, soft_wrap=True)


def _verdict(result: Result) -> int:
    from mbcompress.cli import BUDGET_MISSED, FINE
    from mbcompress.report.budget import against_limit

    several = bool(result.report["other_runtimes"])
    for gate in result.missed:
        side = "at most" if gate["name"] == "accuracy_drop" else "at least"
        problem = (
            f"must be {side} {gate['limit']:g}, measured {against_limit(gate['measured'], gate['limit'], 2, met=False)}"
        )
        where = f", in {gate['runtime']}" if several else ""
        print(f"mbcompress: budget missed: {gate['name']} {problem}{where}", file=sys.stderr)
    return BUDGET_MISSED if result.missed else FINE
