"""Brings images to the size and number of channels that a model wants, with Pillow's antialiased bilinear filter."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Literal

import numpy as np

from mbcompress import MbcompressError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

Resize = Literal["crop", "stretch", "pad"]
"""crop: the shorter side fits, the middle is kept; stretch: both sides fit; pad: the longer side fits, with borders."""


def check_shape(shape: tuple[int, int, int]) -> None:
    """Refuse a model whose input is neither grey nor colour."""
    if shape[0] not in (1, 3):
        raise MbcompressError(f"data: images have 1 or 3 channels, but the model wants {shape[0]}")


def allocate(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Room for images, (N, C, H, W) uint8.

    Raises:
        MbcompressError: the machine has no such memory.
    """
    size = math.prod(shape)
    try:
        if size <= _memory():
            return np.empty(shape, np.uint8)
    except (MemoryError, ValueError):
        pass
    raise MbcompressError(f"data: {shape[0]:,} images of this size need {size / 2**30:.1f} GiB of memory")


def _memory() -> float:
    """Bytes that the machine has: a system that promises more would end the process when they are used."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not every system says
        return math.inf


def resize(image: Image, size: tuple[int, int], how: Resize) -> Image:
    """An image of exactly `size`, (height, width)."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    target = size[::-1]
    if image.size == target:
        return image
    if how == "stretch":
        return image.resize(target, Resampling.BILINEAR)
    fitted = ImageOps.fit if how == "crop" else ImageOps.pad
    return fitted(image, target, Resampling.BILINEAR)


def to_array(image: Image, channels: int) -> NDArray[np.uint8]:
    """(channels, H, W) uint8 from a grey or RGB image."""
    mode = "L" if channels == 1 else "RGB"
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def fit(pixels: NDArray[np.uint8], shape: tuple[int, int, int], how: Resize = "crop") -> NDArray[np.uint8]:
    """(N, h, w) or (N, h, w, 3) uint8 -> contiguous (N, C, H, W) uint8 of `shape`."""
    from PIL import Image

    channels, size = shape[0], shape[1:]
    fitted = allocate((len(pixels), *shape))
    if pixels.shape[1:3] == size and (pixels.ndim == 3 or channels == 3):
        fitted[:] = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
        return fitted
    for row, values in zip(fitted, pixels, strict=True):
        row[:] = to_array(resize(Image.fromarray(values), size, how), channels)
    return fitted
