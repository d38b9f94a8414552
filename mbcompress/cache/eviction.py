"""List cache entries, and evict the least recently used ones."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from mbcompress.cache.store import CHECKPOINTS, ENTRY, PASSES, lock_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGES = "images"
"""Folder of decoded images of datasets; files are read in one go, so they need no lock."""

EARLIER = "steps", "trainings"
"""Folders of earlier versions; not read, only evicted."""


@dataclass(frozen=True)
class Item:
    """A cache entry.

    Attributes:
        kind: 'pass', 'checkpoints' or 'images'.
        name: name of the pass, if known.
        used: time of last use, in seconds since the epoch.
    """

    kind: str
    key: str
    name: str
    path: Path
    bytes: int
    used: float


def items(root: Path) -> list[Item]:
    """Return all cache entries, most recently used first."""
    listed = [*_passes(root), *_checkpoints(root), *_images(root)]
    return sorted(listed, key=lambda item: item.used, reverse=True)


def evict(root: Path, limit: int) -> list[Item]:
    """Remove the least recently used entries until at most `limit` bytes are left; return the removed entries.

    Entries in use by a running process are kept.
    """
    listed = items(root)
    total, evicted = sum(item.bytes for item in listed), []
    for item in reversed(listed):
        if total <= limit:
            break
        if _remove(root, item):
            total -= item.bytes
            evicted.append(item)
    return evicted


def _remove(root: Path, item: Item) -> bool:
    """Remove an entry; return False if it is in use or cannot be removed."""
    lock: FileLock = lock_of(root, item.key)
    try:
        if item.kind == "images":
            item.path.unlink(missing_ok=True)
            return True
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return False
    try:
        shutil.rmtree(item.path, ignore_errors=True)
        return not item.path.exists()
    finally:
        lock.release()


def _passes(root: Path) -> Iterator[Item]:
    for path in [*_listing(root / PASSES), *_listing(root / EARLIER[0])]:
        with suppress(OSError):  # another process can remove it at any time
            used = (path / ENTRY).stat().st_mtime if (path / ENTRY).exists() else 0.0
            key = path.name.removeprefix(".").partition("-")[0]  # unfinished entries are named '.KEY-…'
            yield Item("pass", key, _name(path), path, _size(path), used)


def _checkpoints(root: Path) -> Iterator[Item]:
    for path in [*_listing(root / CHECKPOINTS), *_listing(root / EARLIER[1])]:
        with suppress(OSError):
            used = max((file.stat().st_mtime for file in path.iterdir()), default=0.0)
            yield Item("checkpoints", path.name, "", path, _size(path), used)


def _images(root: Path) -> Iterator[Item]:
    for path in _listing(root / IMAGES):
        with suppress(OSError):
            status = path.stat()
            yield Item("images", path.stem, "", path, status.st_size, status.st_mtime)


def _listing(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _name(path: Path) -> str:
    try:
        return str(json.loads((path / ENTRY).read_text())["pass"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
