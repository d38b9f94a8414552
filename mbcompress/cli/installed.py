"""The plugin registry of a command: `--block NAME` excludes a plugin, and broken plugins are reported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from mbcompress.errors import MbcompressError, unknown
from mbcompress.registry.discovery import BLOCK, Registry, blocked_names, discover

if TYPE_CHECKING:
    import argparse


def add_block_argument(parser: argparse.ArgumentParser) -> None:
    """Add the repeatable option --block."""
    parser.add_argument(
        "--block",
        action="append",
        default=[],
        metavar="NAME",
        help=f"do not load this plugin, or any plugin of this distribution; can be repeated ({BLOCK}=NAME,NAME "
        "does the same for every command)",
    )


def registry_for(options: argparse.Namespace) -> Registry:
    """Load the installed plugins except the blocked ones.

    Raises:
        MbcompressError: a --block name is not installed, so it is probably misspelled.
    """
    names = getattr(options, "block", [])
    registry = discover(names)
    for name in names:
        if problem := _not_installed(name, registry):
            raise MbcompressError(f"--block: {problem}")
    return registry


def report_needless_blocks(registry: Registry) -> None:
    """Warn about names in the environment variable that are not installed, so are probably misspelled."""
    for name in sorted(blocked_names()):
        if problem := _not_installed(name, registry):
            print(f"{BLOCK}: {problem}", file=sys.stderr)


def report_broken(registry: Registry) -> None:
    """Warn about plugins that are completely or partly missing from the command's output."""
    for broken in registry.broken:
        print(f"broken: {broken.origin}: {broken.reason}", file=sys.stderr)


def _not_installed(name: str, registry: Registry) -> str:
    names = {name for origin in registry.origins for name in (origin.plugin, origin.distribution)}
    return "" if canonicalize_name(name) in map(canonicalize_name, names) else unknown("plugin", name, names)
