"""Keeps decoded pixels between runs, so that a folder of 60,000 files is decoded once.

An entry is an .npy file followed by the SHA-256 of its pixels. It appears whole or not at all, and one that is damaged
counts as absent. The cache only saves time: where it cannot be written, the run goes on without it.
"""

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mbcompress.files import cache_folder

Pixels = NDArray[np.uint8]
DIGEST_BYTES = hashlib.sha256().digest_size

logger = logging.getLogger(__name__)


def folder() -> Path:
    """Where entries are kept: `images` in the folder of the cache."""
    return cache_folder() / "images"


def remembered(key: str, shape: tuple[int, ...], compute: Callable[[], Pixels]) -> Pixels:
    """The uint8 array of `shape` that is kept under `key`; computed and kept if it is not there."""
    path = folder() / f"{key}.npy"
    pixels = _read(path, shape)
    if pixels is None:
        pixels = compute()
        try:
            _write(path, pixels)
        except OSError as error:
            logger.warning("decoded images could not be kept in %s: %s", path.parent, error.strerror or error)
    return pixels


def _read(path: Path, shape: tuple[int, ...]) -> Pixels | None:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > np.prod(shape) + 4096:  # damaged: do not follow what its header says
                return None
            pixels = np.asarray(npy.read_array(file, allow_pickle=False))
            digest = file.read(DIGEST_BYTES + 1)
        with contextlib.suppress(OSError):
            os.utime(path)  # used now: what was not used for longest is evicted first
    except Exception:  # absent, or damaged: NumPy raises nearly anything on a damaged header
        return None
    sound = pixels.dtype == np.uint8 and pixels.shape == shape and digest == _digest(pixels)
    return pixels if sound else None


def _write(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            npy.write_array(file, pixels, allow_pickle=False)
            file.write(_digest(pixels))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink()
        raise


def _digest(pixels: Pixels) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(pixels).reshape(-1).data).digest()
