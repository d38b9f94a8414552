"""Where a run is written: under a provisional name until it is complete, so no half-written run is ever found."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbcompress.errors import MbcompressError
from mbcompress.files import sha256, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = Path("runs")
MANIFEST = "manifest.json"


def default_directory(name: str) -> Path:
    """A directory that does not exist yet: `runs/NAME-DATE-TIME`."""
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    candidates = (RUNS / (stem if n == 1 else f"{stem}-{n}") for n in range(1, 1000))
    return next(path for path in candidates if not path.exists())


@contextmanager
def provisional(directory: Path) -> Iterator[Path]:
    """Yield a directory beside `directory` that takes its name if the block succeeds and goes away if it fails.

    Raises:
        MbcompressError: `directory` is in use or cannot be made.
    """
    try:
        directory = directory.absolute()
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise MbcompressError(f"{directory}: already holds something; choose another --out, or remove it first")
        directory.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".partial", dir=directory.parent))
    except FileExistsError:
        raise MbcompressError(f"{directory}: cannot be written: Not a directory") from None
    except OSError as error:
        raise MbcompressError(f"{directory}: cannot be written: {error.strerror}") from None
    try:
        yield partial
        partial.chmod(0o777 & ~_umask())  # a temporary directory is its owner's alone
        partial.replace(directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def list_files(directory: Path) -> list[dict[str, Any]]:
    """Path, bytes and sha256 of every file below, in order of their names."""
    return [describe_file(path, directory) for path in sorted(directory.rglob("*")) if path.is_file()]


def describe_file(path: Path, root: Path) -> dict[str, Any]:
    """{'path' relative to `root`, 'bytes', 'sha256'}."""
    return {"path": path.relative_to(root).as_posix(), "bytes": path.stat().st_size, "sha256": sha256(path)}


def write_manifest(directory: Path) -> None:
    """`manifest.json`: every file of the run with its hash."""
    write_json(directory / MANIFEST, {"files": list_files(directory)})
