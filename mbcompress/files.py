"""Read files of bounded size, write files atomically, and locate the cache folder."""

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import platformdirs

from mbcompress.errors import MbcompressError, first_line

CACHE = "MBCOMPRESS_CACHE"
"""Environment variable for the cache folder; by default `mbcompress` in the user's cache folder."""

LARGEST_JSON = 64 * 2**20


def cache_folder() -> Path:
    """Return the cache folder, which need not exist."""
    return Path(os.environ.get(CACHE) or platformdirs.user_cache_dir("mbcompress")).expanduser()


def read_bounded(path: Path, limit: int) -> bytes:
    """Return the content of a regular file.

    Raises:
        MbcompressError: the file is missing, unreadable or larger than `limit` bytes.
    """
    try:
        if not path.is_file():
            raise MbcompressError(f"{path}: is not a file" if path.exists() else f"{path}: no such file")
        if (size := path.stat().st_size) > limit:
            raise MbcompressError(f"{path}: has {size} bytes, must have at most {limit}")
        return path.read_bytes()
    except OSError as error:
        raise MbcompressError(f"{path}: cannot be read: {error.strerror or error}") from None


def parse_json(content: bytes, path: Path) -> Any:
    """Parse a JSON document; `path` is for error messages.

    Raises:
        MbcompressError: `content` is not JSON.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # includes UTF-8 errors and integers with thousands of digits
        raise MbcompressError(f"{path}: is not JSON: {first_line(error)}") from None


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write to a temporary file next to `path`, fsync, then rename.

    Raises:
        MbcompressError: writing fails, for example because the disk is full; the temporary file is removed.
    """
    raw = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise MbcompressError(f"{path}: cannot be written: {error.strerror or error}") from error
        raise


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically; raises ValueError for NaN and infinity."""
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """Return the hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_file(path: Path, root: Path) -> dict[str, Any]:
    """Return {'path' relative to `root`, 'bytes', 'sha256'}."""
    return {"path": path.relative_to(root).as_posix(), "bytes": path.stat().st_size, "sha256": sha256(path)}


def slug(text: str) -> str:
    """Return a file name or HTML id for `text`: 'prune, recovery 1/2' -> 'prune-recovery-1-2'."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]
