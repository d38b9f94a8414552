"""The command line: one module per command. User errors are printed as one sentence only here.

Exit codes: 0 success, 1 a bug in mbcompress or a plugin, 2 bad input or no space left, 3 a limit of the recipe's budget
was missed, 130 interrupted by Ctrl-C, 143 by SIGTERM.

In: arguments. Out: an exit code. May import: every room.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from mbcompress.cli import cache, doctor, info, passes, plugin, plugins, rerun, run, schema, validate
from mbcompress.errors import Interrupted, MbcompressError, PassError
from mbcompress.pipeline.interruption import handling_signals, raise_interrupted

if TYPE_CHECKING:
    from collections.abc import Sequence

FINE, BUG, BAD_INPUT, BUDGET_MISSED, SIGNALLED = 0, 1, 2, 3, 128
COMMANDS = (run, validate, passes, info, rerun, cache, plugins, plugin, schema, doctor)


class _Version(argparse.Action):
    """Prints the version; reads the distribution's metadata only when used."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import importlib.metadata

        print("mbcompress", importlib.metadata.version("mbcompress"))
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; does not load plugins."""
    parser = argparse.ArgumentParser(
        prog="mbcompress",
        description="Compress CNNs with recipes of pluggable passes, and measure the exported files.",
        epilog="exit codes: 0 success, 1 a bug in mbcompress or a plugin, 2 bad input or no space left, 3 a "
        "limit of the recipe's budget was missed, 130 and 143 interrupted",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = build_parser().parse_args(arguments)
    # read when torch is imported; idle threads must not spin on shared cores
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with handling_signals(raise_interrupted):
            code: int = options.execute(options)
        sys.stdout.flush()
    except MbcompressError as error:
        print(f"mbcompress: {error}", file=sys.stderr)
        return BAD_INPUT
    except PassError as error:
        if error.__cause__:
            traceback.print_exception(error.__cause__)  # for the plugin's author
        print(f"mbcompress: {error}", file=sys.stderr)
        return BUG
    except KeyboardInterrupt as interrupt:
        cached = options.command == "run" and not options.no_cache
        hint = "; the same command resumes it" if cached else ""
        print(f"mbcompress: interrupted{hint}", file=sys.stderr)
        return SIGNALLED + (interrupt.signal if isinstance(interrupt, Interrupted) else signal.SIGINT)
    except BrokenPipeError:
        # the reader closed the pipe, as in `mbcompress passes | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    return code
