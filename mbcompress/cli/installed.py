"""What is installed, for one command: `--block NAME` does without a plugin, and broken ones are named."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from mbcompress.errors import MbcompressError, unknown
from mbcompress.registry.discovery import BLOCK, Registry, blocked_names, discover

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def add_block_argument(parser: argparse.ArgumentParser) -> None:
    """--block, which may be repeated."""
    parser.add_argument(
        "--block",
        action="append",
        default=[],
        metavar="NAME",
        help=f"do not load this plugin, or any plugin of this distribution; may be repeated ({BLOCK}=NAME,NAME "
        "does the same for every command)",
    )


@contextmanager
def blocking(options: argparse.Namespace) -> Iterator[None]:
    """Add what --block names to the environment variable while the block runs: measuring processes inherit it."""
    names = getattr(options, "block", [])
    before = os.environ.get(BLOCK)
    if names:
        os.environ[BLOCK] = ",".join([before or "", *names])
    try:
        yield
    finally:
        if before is not None:
            os.environ[BLOCK] = before
        elif names:
            del os.environ[BLOCK]


def registry_for(options: argparse.Namespace) -> Registry:
    """What is installed and not blocked.

    Raises:
        MbcompressError: --block names nothing that is installed, so it would not keep out what the user fears.
    """
    registry = discover()
    for name in getattr(options, "block", []):
        if problem := _not_there(name, registry):
            raise MbcompressError(f"--block: {problem}")
    return registry


def report_needless_blocks(registry: Registry) -> None:
    """Name what the environment blocks though nothing of that name is installed: it may be misspelt."""
    for name in sorted(blocked_names()):
        if problem := _not_there(name, registry):
            print(f"{BLOCK}: {problem}", file=sys.stderr)


def _not_there(name: str, registry: Registry) -> str:
    there = [*registry.plugins, *registry.blocked, *(broken.origin for broken in registry.broken)]
    names = {each for origin in there for each in (origin.plugin, origin.distribution)}
    return "" if canonicalize_name(name) in map(canonicalize_name, names) else unknown("plugin", name, names)


def report_broken(registry: Registry) -> None:
    """Name plugins that are not, or not wholly, in what the command lists."""
    for broken in registry.broken:
        print(f"broken: {broken.origin}: {broken.reason}", file=sys.stderr)
