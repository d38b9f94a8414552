"""`mbcompress cache list | prune | clear`: what is kept between runs, and how to make room."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from mbcompress.errors import MbcompressError

if TYPE_CHECKING:
    import argparse

    from mbcompress.cache.upkeep import Item


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its own."""
    parser = commands.add_parser("cache", help="list or remove what is kept between runs", description=__doc__)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "list what is there, what was used last first"
    listing = actions.add_parser("list", help=text, description=f"{text.capitalize()}.")
    listing.add_argument("--json", action="store_true", help="print JSON on standard output")
    listing.set_defaults(execute=list_items)
    text = "remove what was not used for longest, until the rest fits"
    prune = actions.add_parser("prune", help=text, description=f"{text.capitalize()}.")
    prune.add_argument(
        "--gib", type=float, metavar="SIZE", help="how much may stay (default: MBCOMPRESS_CACHE_GIB, or 10)"
    )
    prune.set_defaults(execute=prune_items)
    text = "remove everything that no running process uses"
    clear = actions.add_parser("clear", help=text, description=f"{text.capitalize()}.")
    clear.set_defaults(execute=clear_items)


def list_items(options: argparse.Namespace) -> int:
    """A line for each item, and the sum."""
    from mbcompress.cache.place import cache_folder
    from mbcompress.cache.upkeep import items
    from mbcompress.report.wording import file_size

    found = items(cache_folder())
    if options.json:
        described = [
            {"kind": item.kind, "name": item.name, "key": item.key, "bytes": item.bytes, "used": item.used}
            for item in found
        ]
        json.dump(described, sys.stdout, indent=2)
        print()
        return 0
    for item in found:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.used))
        print(f"{item.kind:<8}  {item.name or '-':<20}  {file_size(item.bytes):>8}  used {used}  {item.key[:12]}")
    print(f"{len(found)} items, {file_size(sum(item.bytes for item in found))}, in {cache_folder()}")
    return 0


def prune_items(options: argparse.Namespace) -> int:
    """Make room."""
    from mbcompress.cache.place import cache_limit

    if options.gib is not None and not 0 <= options.gib < 2**40:
        raise MbcompressError(f"--gib: must be a size in GiB, at least 0, got {options.gib}")
    return _evict(cache_limit() if options.gib is None else int(options.gib * 2**30))


def clear_items(options: argparse.Namespace) -> int:
    """Remove all."""
    return _evict(-1)


def _evict(limit: int) -> int:
    from mbcompress.cache.place import cache_folder
    from mbcompress.cache.upkeep import evict, items
    from mbcompress.report.wording import file_size

    gone = evict(cache_folder(), limit)
    left: list[Item] = items(cache_folder())
    size = sum(item.bytes for item in left)
    print(f"{len(gone)} items removed, {file_size(sum(item.bytes for item in gone))}; {file_size(size)} left")
    if limit < 0 and left:
        print(f"{len(left)} items stay, which running processes use or which cannot be removed")
    return 0
