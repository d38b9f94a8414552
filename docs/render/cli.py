"""docs/cli.md, from the parser of the command line."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING
from unittest.mock import patch

from mbcompress.cli import build_parser
from render.markdown import docstring, notice, table

if TYPE_CHECKING:
    from collections.abc import Iterator


def page() -> str:
    """Every command with its arguments, from the parser."""
    parser = build_parser()
    sections = [notice("the command line's parser"), "# Command line", str(parser.description)]
    if parser.epilog:
        sections.append(f"{parser.epilog[0].upper()}{parser.epilog[1:]}.")
    for command in _commands(parser):
        sections += [f"## `{command.prog}`", docstring(_after_dash(command.description or ""))]
        sections += [f"```sh\n{_usage(command)}\n```", *_arguments(command)]
    return "\n\n".join(sections) + "\n"


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Commands in the order of `--help`, each followed by its own commands."""
    for action in parser._actions:  # argparse has no public way to list them
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield command
                yield from _commands(command)


def _after_dash(description: str) -> str:
    """The description without the command, as in '`mbcompress run RECIPE`: run a recipe.'."""
    head, colon, rest = description.partition("`: ")
    return f"{rest[0].upper()}{rest[1:]}" if colon and head.startswith("`mbcompress ") else description


def _usage(parser: argparse.ArgumentParser) -> str:
    with patch.dict(os.environ, {"COLUMNS": "1000", "NO_COLOR": "1"}):
        return parser.format_usage().removeprefix("usage: ").strip()


def _arguments(parser: argparse.ArgumentParser) -> list[str]:
    rows = [(_name(action), action.help or "") for action in parser._actions if _is_listed(action)]
    return [table(["argument", "meaning"], rows)] if rows else []


def _is_listed(action: argparse.Action) -> bool:
    internal = (argparse._HelpAction, argparse._SubParsersAction)
    return not isinstance(action, internal) and action.help is not argparse.SUPPRESS


def _name(action: argparse.Action) -> str:
    if action.choices is not None:
        value = f" {{{','.join(map(str, action.choices))}}}"
    else:
        value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    if not action.option_strings:
        return f"`{value.strip()}`"
    return ", ".join(f"`{option}{value}`" for option in action.option_strings)
