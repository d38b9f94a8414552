"""`mbcompress plugin new NAME | check NAME`: create or test a plugin."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mbcompress.cli.installed import registry_for
from mbcompress.errors import MbcompressError

if TYPE_CHECKING:
    import argparse

    from mbcompress.testing import CheckResult


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its two verbs."""
    parser = commands.add_parser("plugin", help="create or test a plugin", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    writes = "create a package with one pass, its tests and a README"
    new = verbs.add_parser("new", help=writes, description=f"{writes[0].upper()}{writes[1:]}.")
    new.add_argument("name", metavar="NAME", help="name of the pass in recipes")
    new.add_argument("--trains", action="store_true", help="create a pass that trains, with a callback")
    new.add_argument("--directory", type=Path, metavar="DIR", help="directory to create (default: NAME)")
    new.set_defaults(execute=execute_new)
    tests = "test a plugin against the contract and report what to fix"
    check = verbs.add_parser("check", help=tests, description=f"{tests[0].upper()}{tests[1:]}.")
    check.add_argument("name", metavar="NAME", help="a plugin, a distribution or a component")
    check.add_argument(
        "-o",
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="test with this option instead of the class's examples, for example path=photos; can be repeated",
    )
    check.add_argument("--json", action="store_true", help="print JSON on standard output")
    check.set_defaults(execute=execute_check)


def execute_new(options: argparse.Namespace) -> int:
    """Write the package and print the next commands."""
    from mbcompress.cli.scaffold import write_package

    directory = write_package(options.name, options.directory, registry_for(options), trains=options.trains)
    print(f"{directory}: a package with one pass, its tests and a README; next:")
    print(f"    pip install {_as_argument(directory)}")
    print(f"    mbcompress plugin check {options.name}")
    return 0


def _as_argument(directory: Path) -> str:
    """Return the directory as an argument for pip, which would take a bare name for a distribution on PyPI."""
    return str(directory) if directory.is_absolute() else f"./{directory}"


def execute_check(options: argparse.Namespace) -> int:
    """Run the checks, print one line each, and return 1 if one failed."""
    from mbcompress.cli.console import front
    from mbcompress.testing import check_plugin

    with front(shown=not options.json) as progress:
        results = check_plugin(options.name, registry_for(options), _read_options(options.option), progress)
    failed = sum(not result.passed for result in results)
    if options.json:
        json.dump([result.to_mapping() for result in results], sys.stdout, indent=2)
        print()
    else:
        for result in results:
            _print(result)
        print(f"{options.name}: {failed or 'none'} of {len(results)} checks failed")
    return 1 if failed else 0


def _print(result: CheckResult) -> None:
    word = {"passed": "ok  ", "failed": "FAIL", "skipped": "skip"}[result.outcome]
    print(f"{word} {result.subject}: {result.check}")
    for problem in result.problems:
        print(f"     {problem}")


def _read_options(pairs: list[str]) -> dict[str, object] | None:
    from mbcompress.errors import Location
    from mbcompress.recipe.document import read_value

    if not pairs:
        return None
    chosen: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (key and equals):
            raise MbcompressError(f"--option {pair}: must be KEY=VALUE")
        chosen[key] = read_value(text, Location(f"--option {pair}"))
    return chosen
