"""`mbcompress cache list | prune | clear`: list or remove cached passes, checkpoints and images."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from mbcompress.errors import MbcompressError

if TYPE_CHECKING:
    import argparse

    from mbcompress.cache.eviction import Item


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its actions."""
    parser = commands.add_parser(
        "cache", help="list or remove cached passes, checkpoints and images", description=__doc__
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "list all entries, most recently used first"
    listing = actions.add_parser("list", help=text, description=f"{text.capitalize()}.")
    listing.add_argument("--json", action="store_true", help="print JSON on standard output")
    listing.set_defaults(execute=list_items)
    text = "remove the least recently used entries until the cache fits a size"
    prune = actions.add_parser("prune", help=text, description=f"{text.capitalize()}.")
    prune.add_argument(
        "--gib", type=float, metavar="SIZE", help="maximum size of the cache (default: MBCOMPRESS_CACHE_GIB, or 10)"
    )
    prune.set_defaults(execute=prune_items)
    text = "remove all entries that no running process uses"
    clear = actions.add_parser("clear", help=text, description=f"{text.capitalize()}.")
    clear.set_defaults(execute=clear_items)


def list_items(options: argparse.Namespace) -> int:
    """Print one line per entry, and the total."""
    from mbcompress.cache.eviction import items
    from mbcompress.files import cache_folder
    from mbcompress.report.wording import file_size

    entries = items(cache_folder())
    if options.json:
        described = [
            {"kind": item.kind, "name": item.name, "key": item.key, "bytes": item.bytes, "used": item.used}
            for item in entries
        ]
        json.dump(described, sys.stdout, indent=2)
        print()
        return 0
    for item in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.used))
        print(f"{item.kind:<11}  {item.name or '-':<20}  {file_size(item.bytes):>8}  used {used}  {item.key[:12]}")
    print(f"{len(entries)} items, {file_size(sum(item.bytes for item in entries))}, in {cache_folder()}")
    return 0


def prune_items(options: argparse.Namespace) -> int:
    """Evict entries until the cache fits the size."""
    from mbcompress.cache.settings import cache_limit

    if options.gib is not None and not 0 <= options.gib < 2**40:
        raise MbcompressError(f"--gib: must be a size in GiB, at least 0, got {options.gib}")
    return _evict(cache_limit() if options.gib is None else int(options.gib * 2**30))


def clear_items(options: argparse.Namespace) -> int:
    """Evict all entries that are not in use."""
    return _evict(-1)


def _evict(limit: int) -> int:
    from mbcompress.cache.eviction import evict, items
    from mbcompress.files import cache_folder
    from mbcompress.report.wording import file_size

    evicted = evict(cache_folder(), limit)
    left: list[Item] = items(cache_folder())
    size = sum(item.bytes for item in left)
    print(f"{len(evicted)} items removed, {file_size(sum(item.bytes for item in evicted))}; {file_size(size)} left")
    if limit < 0 and left:
        print(f"{len(left)} items not removed: in use, or no permission")
    return 0
