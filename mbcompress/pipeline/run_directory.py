"""The run directory: files stay hidden until the run is complete."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import contextmanager, suppress
from datetime import datetime
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from mbcompress.checkpoint.manifest import MANIFEST
from mbcompress.errors import MbcompressError

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = Path("runs")
PARTIAL = ".partial"
LOCK = ".lock"
STAMP = re.compile(r"-\d{8}-\d{6}(-\d+)?")
"""The part of a run directory's name that follows the recipe's name."""


def default_directory(name: str) -> Path:
    """Return a new `runs/NAME-DATE-TIME`, or the directory of a killed run of this name."""
    for path in sorted(RUNS.glob(f"{escape(name)}-*")):
        if STAMP.fullmatch(path.name.removeprefix(name)) and _was_killed(path):
            return path
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    candidates = (RUNS / (stem if n == 1 else f"{stem}-{n}") for n in range(1, 1000))
    return next(path for path in candidates if not path.exists())


def _was_killed(directory: Path) -> bool:
    """Whether this is the directory of a run that was killed."""
    try:
        if not (directory / LOCK).exists() or _has_other_files(directory):
            return False
        with FileLock(directory / LOCK, timeout=0):
            return True
    except (Timeout, OSError):
        return False


def _has_other_files(directory: Path) -> bool:
    """Whether a directory contains files that do not belong to an unfinished run."""
    own = {PARTIAL, LOCK, *_moved(directory)}
    return any(path.name not in own for path in directory.iterdir())


def _moved(directory: Path) -> set[str]:
    """Names that a killed run may have moved out of the hidden directory already; the manifest moves last."""
    try:
        listed = json.loads((directory / PARTIAL / MANIFEST).read_text())["files"]
        names = {str(entry["path"]).partition("/")[0] for entry in listed}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {
        name for name in names if name not in ("", ".", "..") and Path(name).name == name
    }  # the manifest may be malicious


def _clear(directory: Path) -> None:
    """Remove the files of a killed run, except its lock."""
    for name in _moved(directory):
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    shutil.rmtree(directory / PARTIAL, ignore_errors=True)


@contextmanager
def provisional(directory: Path) -> Iterator[Path]:
    """Lock `directory` and yield a hidden subdirectory; its files move to `directory` if the block succeeds.

    The lock of a killed process is taken over. If the block fails, its files are removed, and also `directory` unless
    it existed before.

    Raises:
        MbcompressError: `directory` is in use, not empty, or cannot be created.
    """
    partial, lock = directory / PARTIAL, FileLock(directory / LOCK, timeout=0)
    existed = True
    try:
        existed = directory.exists()
        if existed and (not directory.is_dir() or _has_other_files(directory)):
            raise MbcompressError(f"{directory}: is not empty; choose another --out, or empty it first")
        existed = existed and not (directory / LOCK).exists()  # otherwise a killed run created it
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        if _has_other_files(directory):  # another run has just finished
            lock.release()
            raise MbcompressError(f"{directory}: is not empty; choose another --out, or empty it first")
        _clear(directory)
        partial.mkdir()
    except Timeout:
        raise MbcompressError(f"{directory}: another run is writing there; choose another --out") from None
    except FileExistsError:
        raise MbcompressError(f"{directory}: cannot be written: Not a directory") from None
    except OSError as error:
        raise MbcompressError(f"{directory}: cannot be written: {error.strerror}") from None
    try:
        yield partial
        for path in sorted(partial.iterdir(), key=lambda path: path.name == MANIFEST):  # last: the run is complete
            path.rename(directory / path.name)
        partial.rmdir()
        (directory / LOCK).unlink()
    except BaseException:
        _clear(directory)
        with suppress(OSError):
            (directory / LOCK).unlink()
            if not existed:
                directory.rmdir()
        raise
    finally:
        lock.release()
