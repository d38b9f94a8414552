"""Convert PIL images and pixel arrays to uint8 with the size and channels of a model's input.

Images are resized with Pillow's antialiased bilinear filter.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Literal

import numpy as np

from mbcompress.errors import MbcompressError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

Shape = tuple[int, int, int]
"""Channels, height and width."""

Resize = Literal["crop", "stretch", "pad"]
"""crop: fit the shorter side, center crop; stretch: fit both sides; pad: fit the longer side, add black borders."""


def check_channels(shape: Shape) -> None:
    """Raise MbcompressError if a model's input is neither grayscale nor RGB."""
    if shape[0] not in (1, 3):
        raise MbcompressError(f"data: images have 1 or 3 channels, but the model takes {shape[0]}")


def allocate(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an uninitialized array for images, (N, C, H, W) uint8.

    Raises:
        MbcompressError: the array does not fit into memory.
    """
    size = math.prod(shape)
    try:
        if size <= _physical_memory():
            return np.empty(shape, np.uint8)
    except (MemoryError, ValueError):
        pass
    raise MbcompressError(f"data: {shape[0]:,} images of this size need {size / 2**30:.1f} GiB of memory")


def _physical_memory() -> float:
    """Return the physical memory in bytes; a system that overcommits would kill the process later."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not available on every system
        return math.inf


def pil_to_array(image: Image, shape: Shape | None = None, how: Resize = "crop") -> NDArray[np.uint8]:
    """Convert a PIL image of any mode to (C, H, W) uint8; if `shape` is None, keep its size, as grayscale or RGB.

    Raises:
        ValueError: the pixels have an unknown range.
    """
    image = _eight_bits(image)
    if shape:
        image = _convert(_resize(image, shape[1:], how), "L" if shape[0] == 1 else "RGB")
    pixels = np.asarray(image)
    return pixels[None] if image.mode == "L" else pixels.transpose(2, 0, 1)


def resize_images(pixels: NDArray[np.uint8], shape: Shape, how: Resize = "crop") -> NDArray[np.uint8]:
    """Resize (N, h, w) or (N, h, w, 3) uint8 to contiguous (N, C, H, W) uint8 of `shape`."""
    from PIL import Image

    channels, size = shape[0], shape[1:]
    resized = allocate((len(pixels), *shape))
    if pixels.shape[1:3] == size and (pixels.ndim == 3 or channels == 3):
        resized[:] = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
        return resized
    for row, values in zip(resized, pixels, strict=True):
        row[:] = pil_to_array(Image.fromarray(values), shape, how)
    return resized


def _resize(image: Image, size: tuple[int, int], how: Resize) -> Image:
    """Resize an image to `size`, (height, width)."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    target = size[::-1]
    if image.size == target:
        return image
    if how == "stretch":
        return image.resize(target, Resampling.BILINEAR)
    fitted = ImageOps.fit if how == "crop" else ImageOps.pad
    return fitted(image, target, Resampling.BILINEAR)


def _eight_bits(image: Image) -> Image:
    """Convert to mode L or RGB; transparent pixels keep their stored color, as in torchvision."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits a channel")
    if image.mode.startswith("I"):
        return _sixteen_bits_to_eight(image)
    if image.mode in ("1", "L", "LA"):
        return _convert(image, "L")
    return _convert(image.convert("RGBA") if "transparency" in image.info else image, "RGB")


def _convert(image: Image, mode: str) -> Image:
    return image if image.mode == mode else image.convert(mode)  # convert() always copies


def _sixteen_bits_to_eight(image: Image) -> Image:
    """Scale 16-bit grayscale to 8 bits; Pillow would clip it at 255."""
    from PIL.Image import fromarray

    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError("its pixels are 32-bit numbers of unknown range; save it with 8 or 16 bits a channel")
    table = np.rint(np.arange(0x10000) / 257).astype(np.uint8)  # dividing each pixel would need eight times the memory
    return fromarray(table[values])
