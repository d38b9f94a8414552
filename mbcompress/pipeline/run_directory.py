"""The run directory: its files are hidden until the run is complete."""

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
"""The part of a run directory's name after that of the recipe."""


def default_directory(name: str) -> Path:
    """`runs/NAME-DATE-TIME`, which does not exist yet, or the directory of a run of this name that was killed."""
    for path in sorted(RUNS.glob(f"{escape(name)}-*")):
        if STAMP.fullmatch(path.name.removeprefix(name)) and _was_killed(path):
            return path
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    candidates = (RUNS / (stem if n == 1 else f"{stem}-{n}") for n in range(1, 1000))
    return next(path for path in candidates if not path.exists())


def _was_killed(directory: Path) -> bool:
    """Whether the process of the run in this directory has died."""
    try:
        if not (directory / LOCK).exists() or _has_other_files(directory):
            return False
        with FileLock(directory / LOCK, timeout=0):
            return True
    except (Timeout, OSError):
        return False


def _has_other_files(directory: Path) -> bool:
    """Whether a directory holds files that are not of an unfinished run."""
    own = {PARTIAL, LOCK, *_moved(directory)}
    return any(path.name not in own for path in directory.iterdir())


def _moved(directory: Path) -> set[str]:
    """Files that a run may have moved up before it was killed; its manifest moves last and is still below."""
    try:
        listed = json.loads((directory / PARTIAL / MANIFEST).read_text())["files"]
        names = {str(entry["path"]).partition("/")[0] for entry in listed}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {
        name for name in names if name not in ("", ".", "..") and Path(name).name == name
    }  # the manifest may be forged


def _clear(directory: Path) -> None:
    """Remove the files of a run that was killed, but not its lock."""
    for name in _moved(directory):
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    shutil.rmtree(directory / PARTIAL, ignore_errors=True)


@contextmanager
def provisional(directory: Path) -> Iterator[Path]:
    """Claim `directory`, and yield a hidden directory inside; its files move up if the block succeeds.

    No other run can claim the same directory meanwhile; the claim of a process that was killed is taken over. If the
    block fails, its files are removed, and the directory too unless it existed before, as a mount point or a link may.

    Raises:
        MbcompressError: `directory` is in use or cannot be made.
    """
    partial, lock = directory / PARTIAL, FileLock(directory / LOCK, timeout=0)
    existed = True
    try:
        existed = directory.exists()
        if existed and (not directory.is_dir() or _has_other_files(directory)):
            raise MbcompressError(f"{directory}: is not empty; choose another --out, or empty it first")
        existed = existed and not (directory / LOCK).exists()  # else a run that was killed has made it
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        if _has_other_files(directory):  # a run that has just ended
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
