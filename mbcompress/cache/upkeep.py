"""What the cache holds, and how it is kept small: what was not used for longest goes first."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from mbcompress.cache.store import ENTRY, STEPS, TRAININGS, lock_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGES = "images"
"""Decoded images, which datasets keep; read in one go, so that they need no lock."""


@dataclass(frozen=True)
class Item:
    """Something that the cache holds.

    Attributes:
        kind: 'step', 'training' or 'images'.
        name: the pass that the step is of, if that is known.
        used: when it was last used, in seconds since 1970.
    """

    kind: str
    key: str
    name: str
    path: Path
    bytes: int
    used: float


def items(root: Path) -> list[Item]:
    """Everything that is in the cache, what was used last first."""
    found = [*_steps(root), *_trainings(root), *_images(root)]
    return sorted(found, key=lambda item: item.used, reverse=True)


def evict(root: Path, limit: int) -> list[Item]:
    """Remove what was not used for longest until at most `limit` bytes are left, and say what went.

    What a running process uses stays.
    """
    found = items(root)
    total, gone = sum(item.bytes for item in found), []
    for item in reversed(found):
        if total <= limit:
            break
        if _remove(root, item):
            total -= item.bytes
            gone.append(item)
    return gone


def _remove(root: Path, item: Item) -> bool:
    """Whether the item is gone; one that is in use is not."""
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


def _steps(root: Path) -> Iterator[Item]:
    for path in _listing(root / STEPS):
        with suppress(OSError):  # another process may remove it at any time
            used = (path / ENTRY).stat().st_mtime if (path / ENTRY).exists() else 0.0
            key = path.name.removeprefix(".").partition("-")[0]  # one that was never finished is called '.KEY-…'
            yield Item("step", key, _name(path), path, _size(path), used)


def _trainings(root: Path) -> Iterator[Item]:
    for path in _listing(root / TRAININGS):
        with suppress(OSError):
            used = max((file.stat().st_mtime for file in path.iterdir()), default=0.0)
            yield Item("training", path.name, "", path, _size(path), used)


def _images(root: Path) -> Iterator[Item]:
    for path in _listing(root / IMAGES):
        with suppress(OSError):
            status = path.stat()
            yield Item(IMAGES, path.stem, "", path, status.st_size, status.st_mtime)


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
