"""Decode image files into one array, in parallel and cached."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from mbcompress import Images
from mbcompress.data import Resize, allocate, decode_image, quiet_pillow

from . import cache
from .folders import ImageFile, Listing

VERSION = 1
"""Part of the cache key; increase it when decoding changes."""

FILES_PER_TASK = 64
MAX_THREADS = 8  # more threads would mostly wait for the GIL, which is released only while decoding


def read(listings: list[Listing], shape: tuple[int, int, int], how: Resize) -> list[Images]:
    """Return the images of each listing; their pixels are views of one (N, C, H, W) array.

    Raises:
        MbcompressError: a file is not an image, or the images do not fit into memory.
    """
    files = [file for listing in listings for file in listing.files]
    pixels = cache.cached(_key(listings, shape, how), (len(files), *shape), lambda: _decode_all(files, shape, how))
    ends = np.cumsum([len(listing.files) for listing in listings])[:-1]
    parts = np.split(pixels, ends)
    return [Images(part, listing.labels) for part, listing in zip(parts, listings, strict=True)]


def _key(listings: list[Listing], shape: tuple[int, int, int], how: Resize) -> str:
    """Hash of the files and the decoding options; adding, moving or changing a file changes the key."""
    import PIL

    digest = hashlib.sha256(repr((VERSION, PIL.__version__, shape, how)).encode())
    for listing in listings:
        digest.update(b"listing\0")
        for file in listing.files:
            # absolute, because other folders may have equal names and times; `resolve` would access the disk
            digest.update(os.fsencode(os.path.abspath(file.path)))  # noqa: PTH100
            digest.update(f"\0{file.size}\0{file.mtime_ns}\0".encode())
    return digest.hexdigest()


def _decode_all(files: list[ImageFile], shape: tuple[int, int, int], how: Resize) -> NDArray[np.uint8]:
    pixels = allocate((len(files), *shape))

    with quiet_pillow(), ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS)) as pool:

        def fill(start: int) -> None:
            for row in range(start, min(start + FILES_PER_TASK, len(files))):
                pixels[row] = decode_image(files[row].path, shape, how)

        for _ in pool.map(fill, range(0, len(files), FILES_PER_TASK)):
            pass  # raises the first error; pending tasks are canceled
    return pixels
