"""What is installed, for one command: `--block NAME` does without a plugin, and broken ones are named."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from mbcompress.errors import MbcompressError, unknown
from mbcompress.host import BLOCK, Catalogue, blocked_names, discover

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


def catalogue_for(options: argparse.Namespace) -> Catalogue:
    """What is installed and not blocked.

    Raises:
        MbcompressError: --block names nothing that is installed, so it would not keep out what the user fears.
    """
    catalogue = discover()
    for name in getattr(options, "block", []):
        if problem := _not_there(name, catalogue):
            raise MbcompressError(f"--block: {problem}")
    return catalogue


def report_needless_blocks(catalogue: Catalogue) -> None:
    """Name what the environment blocks though nothing of that name is installed: it may be misspelt."""
    for name in sorted(blocked_names()):
        if problem := _not_there(name, catalogue):
            print(f"{BLOCK}: {problem}", file=sys.stderr)


def _not_there(name: str, catalogue: Catalogue) -> str:
    there = [*catalogue.plugins, *catalogue.blocked, *(broken.origin for broken in catalogue.broken)]
    names = {each for origin in there for each in (origin.plugin, origin.distribution)}
    return "" if canonicalize_name(name) in map(canonicalize_name, names) else unknown("plugin", name, names)


def report_broken(catalogue: Catalogue) -> None:
    """Name plugins that are not, or not wholly, in what the command lists."""
    for broken in catalogue.broken:
        print(f"broken: {broken.origin}: {broken.reason}", file=sys.stderr)
