"""Where a run is written: out of sight until it is complete, so no half-written run is ever found."""

from __future__ import annotations

import shutil
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbcompress.errors import MbcompressError
from mbcompress.files import sha256, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = Path("runs")
MANIFEST = "manifest.json"
PARTIAL = ".partial"


def default_directory(name: str) -> Path:
    """A directory that does not exist yet: `runs/NAME-DATE-TIME`."""
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    candidates = (RUNS / (stem if n == 1 else f"{stem}-{n}") for n in range(1, 1000))
    return next(path for path in candidates if not path.exists())


@contextmanager
def provisional(directory: Path) -> Iterator[Path]:
    """Claim `directory`, and yield a hidden one inside whose files move up if the block succeeds.

    Nobody else can claim the same directory meanwhile. If the block fails, what it wrote goes away, and the directory
    too unless it was there before: it may be a mount point or a link to one.

    Raises:
        MbcompressError: `directory` is in use or cannot be made.
    """
    partial = directory / PARTIAL
    try:
        existed = directory.exists()
        if existed and (not directory.is_dir() or any(directory.iterdir())):
            found = "another run is writing there, or was killed" if partial.exists() else "already holds something"
            raise MbcompressError(f"{directory}: {found}; choose another --out, or remove it first")
        directory.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except FileExistsError:
        taken = "another run is writing there" if partial.exists() else "Not a directory"
        raise MbcompressError(f"{directory}: cannot be written: {taken}") from None
    except OSError as error:
        raise MbcompressError(f"{directory}: cannot be written: {error.strerror}") from None
    try:
        yield partial
        for path in sorted(partial.iterdir(), key=lambda path: path.name == MANIFEST):  # last: the run is complete
            path.rename(directory / path.name)
        partial.rmdir()
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if not existed:
            with suppress(OSError):
                directory.rmdir()
        raise


def list_files(directory: Path) -> list[dict[str, Any]]:
    """Path, bytes and sha256 of every file below, in order of their names."""
    return [describe_file(path, directory) for path in sorted(directory.rglob("*")) if path.is_file()]


def describe_file(path: Path, root: Path) -> dict[str, Any]:
    """{'path' relative to `root`, 'bytes', 'sha256'}."""
    return {"path": path.relative_to(root).as_posix(), "bytes": path.stat().st_size, "sha256": sha256(path)}


def write_manifest(directory: Path) -> None:
    """`manifest.json`: every file of the run with its hash."""
    write_json(directory / MANIFEST, {"files": list_files(directory)})
