"""Where a run is written: out of sight until it is complete, so no half-written run is ever found."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import contextmanager, suppress
from datetime import datetime
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from mbcompress.errors import MbcompressError
from mbcompress.files import sha256, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = Path("runs")
MANIFEST = "manifest.json"
PARTIAL = ".partial"
LOCK = ".lock"
STAMP = re.compile(r"-\d{8}-\d{6}(-\d+)?")
"""What follows the name of a recipe in the name of a run's directory."""


def default_directory(name: str) -> Path:
    """A directory that does not exist yet: `runs/NAME-DATE-TIME`; or that of a run of this name that was killed."""
    for path in sorted(RUNS.glob(f"{escape(name)}-*")):
        if STAMP.fullmatch(path.name.removeprefix(name)) and _was_killed(path):
            return path
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    candidates = (RUNS / (stem if n == 1 else f"{stem}-{n}") for n in range(1, 1000))
    return next(path for path in candidates if not path.exists())


def _was_killed(directory: Path) -> bool:
    """Whether a run was written here by a process that is no more."""
    try:
        if not (directory / LOCK).exists() or _others(directory):
            return False
        with FileLock(directory / LOCK, timeout=0):
            return True
    except (Timeout, OSError):
        return False


def _others(directory: Path) -> bool:
    """Whether a directory holds anything but what a run that is being written leaves there."""
    ours = {PARTIAL, LOCK, *_moved(directory)}
    return any(path.name not in ours for path in directory.iterdir())


def _moved(directory: Path) -> set[str]:
    """What a run that was killed while its files moved up may have moved; its manifest is the last and still below."""
    try:
        listed = json.loads((directory / PARTIAL / MANIFEST).read_text())["files"]
        names = {str(entry["path"]).partition("/")[0] for entry in listed}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in names if name not in ("", ".", "..") and Path(name).name == name}  # anybody may write one


def _clear(directory: Path) -> None:
    """Remove what a run that was killed has left, but for its lock."""
    for name in _moved(directory):
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    shutil.rmtree(directory / PARTIAL, ignore_errors=True)


@contextmanager
def provisional(directory: Path) -> Iterator[Path]:
    """Claim `directory`, and yield a hidden one inside whose files move up if the block succeeds.

    Nobody else can claim the same directory meanwhile; the claim of a process that was killed is taken over. If the
    block fails, what it wrote goes away, and the directory too unless it was there before: it may be a mount point or a
    link to one.

    Raises:
        MbcompressError: `directory` is in use or cannot be made.
    """
    partial, lock = directory / PARTIAL, FileLock(directory / LOCK, timeout=0)
    existed = True
    try:
        existed = directory.exists()
        if existed and (not directory.is_dir() or _others(directory)):
            raise MbcompressError(f"{directory}: already holds something; choose another --out, or remove it first")
        existed = existed and not (directory / LOCK).exists()  # else a run that was killed has made it
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        if _others(directory):  # a run that has just ended
            lock.release()
            raise MbcompressError(f"{directory}: already holds something; choose another --out, or remove it first")
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


def list_files(directory: Path) -> list[dict[str, Any]]:
    """Path, bytes and sha256 of every file below, in order of their names."""
    return [describe_file(path, directory) for path in sorted(directory.rglob("*")) if path.is_file()]


def describe_file(path: Path, root: Path) -> dict[str, Any]:
    """{'path' relative to `root`, 'bytes', 'sha256'}."""
    return {"path": path.relative_to(root).as_posix(), "bytes": path.stat().st_size, "sha256": sha256(path)}


def write_manifest(directory: Path) -> None:
    """`manifest.json`: every file of the run with its hash."""
    write_json(directory / MANIFEST, {"files": list_files(directory)})
