"""Store finished passes by key: written atomically, verified when read, and computed by one run at a time."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from mbcompress.cache.checkpoints import CheckpointFolder
from mbcompress.cache.settings import DEFAULT_CHECKPOINT_SECONDS
from mbcompress.errors import MbcompressError
from mbcompress.files import sha256, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mbcompress.contract.progress import Progress

PASSES, CHECKPOINTS, LOCKS = "passes", "checkpoints", "locks"
ENTRY = "entry.json"
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Store:
    """The finished passes in a cache folder.

    Attributes:
        root: the folder, which need not exist.
        progress: shows warnings about entries that are damaged or cannot be written.
        interval: seconds between two checkpoints of a training.
    """

    root: Path
    progress: Progress
    interval: float = DEFAULT_CHECKPOINT_SECONDS

    @contextmanager
    def claimed(self, key: str, name: str) -> Iterator[None]:
        """Lock the entry `key` while the block runs; wait if another run holds the lock.

        The lock of a dead process is released. If the folder cannot be written, the block runs without a lock.
        """
        lock = lock_of(self.root, key)
        try:
            (self.root / LOCKS).mkdir(parents=True, exist_ok=True)
            self._acquire(lock, name)
        except OSError as error:
            self.progress.say(f"cache: {self.root} cannot be written ({error.strerror}); nothing is cached")
        try:
            yield
        finally:
            lock.release()

    def _acquire(self, lock: FileLock, name: str) -> None:
        label = f"{name}: waiting for another run that computes the same pass"
        for attempt in itertools.count():
            if attempt == 1:
                self.progress.say(label)
            with self.progress.busy(label), suppress(Timeout):
                lock.acquire(timeout=attempt and POLL_SECONDS)
                return

    def find(self, key: str, name: str) -> Path | None:
        """Return the directory of a finished pass and mark it as used; None if it is missing or damaged."""
        entry = self.root / PASSES / key
        if not entry.is_dir():
            return None
        try:
            listed = json.loads((entry / ENTRY).read_text())["files"]
            damaged = [name for name, digest in listed.items() if sha256(entry / name) != digest]
            os.utime(entry / ENTRY)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            damaged = [f"{ENTRY}: {error}"]
        if damaged:
            self.progress.say(f"cache: the entry of {name!r} is damaged ({damaged[0]}); computing it again")
            shutil.rmtree(entry, ignore_errors=True)
            return None
        return entry

    def keep(self, key: str, name: str, write: Callable[[Path], None]) -> Path | None:
        """Store the files that `write` creates in a directory as entry `key`; return None if that fails."""
        passes = self.root / PASSES
        partial = None
        try:
            passes.mkdir(parents=True, exist_ok=True)
            partial = passes / tempfile.mkdtemp(prefix=f".{key}-", dir=passes)
            write(partial)
            files = {path.name: sha256(path) for path in sorted(partial.iterdir())}
            write_json(partial / ENTRY, {"schema": 1, "pass": name, "files": files})
            partial.rename(passes / key)
        except (OSError, MbcompressError) as error:
            if partial is not None:
                shutil.rmtree(partial, ignore_errors=True)
            self.progress.say(f"cache: {name!r} was not cached: {error}")
            return None
        return passes / key

    def checkpoints(self, key: str) -> CheckpointFolder:
        """Return the training checkpoints of a pass."""
        return CheckpointFolder(self.root / CHECKPOINTS / key, self.progress, self.interval)

    def delete_checkpoints(self, key: str) -> None:
        """Delete the checkpoints of a finished pass."""
        shutil.rmtree(self.root / CHECKPOINTS / key, ignore_errors=True)


def lock_of(root: Path, key: str) -> FileLock:
    """Return the lock for computing, reading or evicting the entry `key`."""
    return FileLock(root / LOCKS / f"{key}.lock")
