"""Finished steps by key: written whole or not at all, verified when they are read, computed by one run at a time."""

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

from mbcompress.cache.checkpoints import DEFAULT_SECONDS, Checkpoints
from mbcompress.errors import MbcompressError
from mbcompress.files import sha256, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mbcompress.contract.progress import Progress

STEPS, TRAININGS, LOCKS = "steps", "trainings", "locks"
ENTRY = "entry.json"
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Store:
    """The steps of one cache folder.

    Attributes:
        root: the folder, which need not exist.
        progress: told of what is damaged and of what cannot be kept.
        interval: how often a training is saved on its way, in seconds.
    """

    root: Path
    progress: Progress
    interval: float = DEFAULT_SECONDS

    @contextmanager
    def claimed(self, key: str, name: str) -> Iterator[None]:
        """Nobody else computes or evicts the step `key` while the block runs; waits for whoever does.

        A process that dies gives its claims up. Where the folder cannot be written, the block runs without a claim.
        """
        lock = lock_of(self.root, key)
        try:
            (self.root / LOCKS).mkdir(parents=True, exist_ok=True)
            self._acquire(lock, name)
        except OSError as error:
            self.progress.say(f"cache: {self.root} cannot be written ({error.strerror}); nothing is kept")
        try:
            yield
        finally:
            lock.release()

    def _acquire(self, lock: FileLock, name: str) -> None:
        label = f"{name}: another run is at the same step, waiting for it"
        for attempt in itertools.count():
            if attempt == 1:
                self.progress.say(label)
            with self.progress.busy(label), suppress(Timeout):
                lock.acquire(timeout=attempt and POLL_SECONDS)
                return

    def find(self, key: str, name: str) -> Path | None:
        """The directory of a finished step, if it is there and what was written; it counts as used now."""
        place = self.root / STEPS / key
        if not place.is_dir():
            return None
        try:
            listed = json.loads((place / ENTRY).read_text())["files"]
            damaged = [file for file, digest in listed.items() if sha256(place / file) != digest]
            os.utime(place / ENTRY)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            damaged = [f"{ENTRY}: {error}"]
        if damaged:
            self.progress.say(f"cache: the entry of {name!r} is damaged ({damaged[0]}); it is computed again")
            shutil.rmtree(place, ignore_errors=True)
            return None
        return place

    def keep(self, key: str, name: str, write: Callable[[Path], None]) -> Path | None:
        """Let `write` fill a directory, and make it the entry of `key`; None if there is no room or no right to it."""
        steps = self.root / STEPS
        beside = None
        try:
            steps.mkdir(parents=True, exist_ok=True)
            beside = steps / tempfile.mkdtemp(prefix=f".{key}-", dir=steps)
            write(beside)
            files = {path.name: sha256(path) for path in sorted(beside.iterdir())}
            write_json(beside / ENTRY, {"schema": 1, "pass": name, "files": files})
            beside.rename(steps / key)
        except (OSError, MbcompressError) as error:
            if beside is not None:
                shutil.rmtree(beside, ignore_errors=True)
            self.progress.say(f"cache: {name!r} was not kept: {error}")
            return None
        return steps / key

    def checkpoints(self, key: str) -> Checkpoints:
        """Those of the trainings of the step."""
        return Checkpoints(self.root / TRAININGS / key, self.progress, self.interval)

    def forget_checkpoints(self, key: str) -> None:
        """The step is finished."""
        shutil.rmtree(self.root / TRAININGS / key, ignore_errors=True)


def lock_of(root: Path, key: str) -> FileLock:
    """What whoever computes, reads or evicts the step `key` holds."""
    return FileLock(root / LOCKS / f"{key}.lock")
