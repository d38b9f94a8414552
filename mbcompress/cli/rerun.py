"""`mbcompress rerun RUN_DIR`: repeat a run from its resolved recipe and compare the results.

The cache is not used. Exits with code 3 if accuracy, weights or files differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mbcompress import recipe as recipes
from mbcompress.cli.allocator import keep_freed_memory
from mbcompress.cli.installed import add_block_argument, registry_for
from mbcompress.cli.run import add_run_arguments
from mbcompress.errors import MbcompressError
from mbcompress.pipeline.processes import behind_main, is_main

if TYPE_CHECKING:
    import argparse

RECIPE = "recipe.yaml"


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("rerun", help="repeat a run and compare the results", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="a run directory")
    add_block_argument(parser)
    add_run_arguments(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Run without the cache, compare, and return 3 if anything differs."""
    from mbcompress.checkpoint.manifest import read_manifest
    from mbcompress.cli import BUDGET_MISSED, FINE
    from mbcompress.cli.console import front
    from mbcompress.pipeline.launch import launch
    from mbcompress.pipeline.rerun import compare_environments, compare_runs

    run = options.run.absolute()
    read_manifest(run).read(run / RECIPE, recipes.MAX_BYTES)  # rejects a modified recipe
    recipe = options.run / RECIPE
    document = recipes.read(recipe)
    if "model" not in document.data or "data" not in document.data:
        raise MbcompressError(
            f"{recipe}: model or data came from a Python program; run that program again to repeat the run"
        )
    registry = registry_for(options)
    plan = recipes.resolve(document, registry)
    with behind_main(), keep_freed_memory():
        shown = is_main() and not options.quiet
        result = launch(plan, registry, options.out, options.device, front(shown=shown), cache=False)
    findings = compare_runs(options.run, result.path)
    for finding in findings:
        verdict = f"the same, {finding.first}" if finding.same else f"{finding.first} then, {finding.second} now"
        print(f"{finding.subject}: {verdict}")
    for finding in compare_environments(options.run, result.path):
        print(f"the environment differs: {finding.subject}: {finding.first} then, {finding.second} now")
    print(f"repeated in {result.path}")
    return FINE if all(finding.same for finding in findings) else BUDGET_MISSED
