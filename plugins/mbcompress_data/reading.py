"""Decodes the files of folders into one array, in parallel, by way of the cache."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from mbcompress import Images

from . import cache
from .decoding import decode, decoder
from .folders import ImageFile, Listing
from .resizing import Resize, allocate

VERSION = 1
"""Raise it when the same files would be decoded to other pixels: what is in the cache is then forgotten."""

FILES_PER_TASK = 64
MAX_THREADS = 8  # more would mostly wait for Python's lock, which only decoding itself gives up


def read(listings: list[Listing], shape: tuple[int, int, int], how: Resize) -> list[Images]:
    """The images of each listing; their pixels are parts of one (N, C, H, W) array.

    Raises:
        MbcompressError: a file is not an image, or the images do not fit into memory.
    """
    files = [file for listing in listings for file in listing.files]
    pixels = cache.remembered(_key(listings, shape, how), (len(files), *shape), lambda: _decode_all(files, shape, how))
    ends = np.cumsum([len(listing.files) for listing in listings])[:-1]
    parts = np.split(pixels, ends)
    return [Images(part, listing.labels) for part, listing in zip(parts, listings, strict=True)]


def _key(listings: list[Listing], shape: tuple[int, int, int], how: Resize) -> str:
    """Covers what was found and how it is decoded: a file that is added, moved or changed gives another key."""
    import PIL

    digest = hashlib.sha256(repr((VERSION, PIL.__version__, shape, how)).encode())
    for listing in listings:
        digest.update(b"listing\0")
        for file in listing.files:
            # another folder may hold the same names and times; `resolve` would ask the disk for each
            digest.update(os.fsencode(os.path.abspath(file.path)))  # noqa: PTH100
            digest.update(f"\0{file.size}\0{file.mtime_ns}\0".encode())
    return digest.hexdigest()


def _decode_all(files: list[ImageFile], shape: tuple[int, int, int], how: Resize) -> NDArray[np.uint8]:
    pixels = allocate((len(files), *shape))

    with decoder() as formats, ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS)) as pool:

        def fill(start: int) -> None:
            for row in range(start, min(start + FILES_PER_TASK, len(files))):
                pixels[row] = decode(files[row].path, shape, how, formats)

        for _ in pool.map(fill, range(0, len(files), FILES_PER_TASK)):
            pass  # the first error stops here, and what has not begun is cancelled
    return pixels
