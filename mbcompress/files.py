"""Files that appear whole or not at all, and the folder of the cache."""

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import platformdirs

from mbcompress.errors import MbcompressError

CACHE = "MBCOMPRESS_CACHE"
"""Environment variable: the cache folder, instead of `mbcompress` in the user's cache folder."""


def cache_folder() -> Path:
    """The folder of the cache, which need not exist."""
    return Path(os.environ.get(CACHE) or platformdirs.user_cache_dir("mbcompress")).expanduser()


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write beside `path`, flush to the disk, then rename.

    Raises:
        MbcompressError: the system says no, as where a disk is full; nothing is left beside `path`.
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
    """Indented JSON, atomically; NaN and infinity are refused, as no JSON reader must take them."""
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def slug(text: str) -> str:
    """What can be a file's name, and part of an identifier in a page: 'prune, recovery 1/2' -> 'prune-recovery-1-2'."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]
