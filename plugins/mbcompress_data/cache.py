"""Cache of decoded pixels, so that an image folder is decoded only once.

An entry is an .npy file followed by the SHA-256 of its pixels. Entries are written atomically, and damaged entries are
ignored. If the cache cannot be written, the run continues without it.
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

from mbcompress.data import cache_folder

Pixels = NDArray[np.uint8]
DIGEST_BYTES = hashlib.sha256().digest_size

logger = logging.getLogger(__name__)


def folder() -> Path:
    """Return the folder of the entries, `images` in the cache folder."""
    return cache_folder() / "images"


def cached(key: str, shape: tuple[int, ...], compute: Callable[[], Pixels]) -> Pixels:
    """Return the cached uint8 array of this key and shape; compute and cache it if it is missing."""
    path = folder() / f"{key}.npy"
    pixels = _read(path, shape)
    if pixels is None:
        pixels = compute()
        try:
            _write(path, pixels)
        except OSError as error:
            logger.warning("cannot cache decoded images in %s: %s", path.parent, error.strerror or error)
    return pixels


def _read(path: Path, shape: tuple[int, ...]) -> Pixels | None:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > np.prod(shape) + 4096:  # damaged; its header may claim any size
                return None
            pixels = np.asarray(npy.read_array(file, allow_pickle=False))
            digest = file.read(DIGEST_BYTES + 1)
        with contextlib.suppress(OSError):
            os.utime(path)  # the least recently used entries are evicted first
    except Exception:  # missing or damaged; NumPy raises various exceptions on a damaged header
        return None
    sound = pixels.dtype == np.uint8 and pixels.shape == shape and digest == _digest(pixels)
    return pixels if sound else None


def _write(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            npy.write_array(file, pixels, allow_pickle=False)
            file.write(_digest(pixels))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink()
        raise


def _digest(pixels: Pixels) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(pixels).reshape(-1).data).digest()
