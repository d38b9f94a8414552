"""Reads one image file, whatever its format and colour mode, as bytes of the size that the model wants."""

from __future__ import annotations

import mmap
import re
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mbcompress import MbcompressError
from mbcompress.errors import brief

from .resizing import Resize, resize, to_array

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""Formats that Pillow decodes by itself; EPS is not among them because it is a program, which Ghostscript would run."""

MAX_PIXELS = 89_478_485
"""Pillow's own threshold for suspected decompression bombs: 256 MiB of RGB."""

MAX_SLOW_PIXELS = 32_000_000
"""The same for JPEG 2000, which takes ten times as long."""

MAX_SCANNED = 50 * MAX_PIXELS
"""Pixels times scans of a progressive JPEG: a scan may have a hundred bytes, and goes over every pixel."""

MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
"""Begins a segment of a JPEG; what compressed data has after 0xff is zero, or the number of a restart."""

START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"


@contextmanager
def decoder() -> Iterator[tuple[str, ...]]:
    """Prepare Pillow for use from several threads; gives the names of the formats that are available."""
    from PIL import Image

    Image.init()
    with warnings.catch_warnings():  # the filters are the process's: set once here, not in the threads
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield tuple(name for name in FORMATS if name in Image.OPEN)


def decode(path: str, shape: tuple[int, int, int], how: Resize, formats: tuple[str, ...]) -> NDArray[np.uint8]:
    """The first frame of an image file as (C, H, W) uint8 of `shape`.

    Raises:
        MbcompressError: the file cannot be read, is no image, is truncated or is enormous.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=formats) as image:
            _refuse_enormous(image, path)
            image.load()
            _turn_upright(image)
            return to_array(resize(_to_rgb(image), shape[1:], how), shape[0])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        problem = _too_many(MAX_PIXELS)
    except UnidentifiedImageError:
        problem = "it is not an image in a known format; mend it or move it elsewhere"
    except Exception as error:  # on damaged files Pillow's decoders raise nearly anything
        problem = brief(str(getattr(error, "strerror", None) or error) or type(error).__name__)
    raise MbcompressError(f"data: cannot read image {path!r}: {problem}")


def _refuse_enormous(image: Image, path: str) -> None:
    """Raise ValueError where decoding would take gigabytes or minutes."""
    pixels = image.width * image.height
    limit = MAX_SLOW_PIXELS if image.format == "JPEG2000" else MAX_PIXELS
    if pixels > limit:
        raise ValueError(_too_many(limit))
    if image.format in ("JPEG", "MPO") and pixels * _count_scans(path) > MAX_SCANNED:
        raise ValueError("its pixels come in more scans than any JPEG needs; save it once more")


def _too_many(limit: int) -> str:
    return f"it has more than {limit:,} pixels; make it smaller"


def _count_scans(path: str) -> int:
    """How many scans a JPEG file has, without those of a thumbnail inside and of a film that a camera appends."""
    scans, at = 0, 0
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while (found := MARKER.search(content, at)) and found[0] != END_OF_IMAGE:
            scans += found[0] == START_OF_SCAN
            at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return scans


def _turn_upright(image: Image) -> None:
    from PIL import ImageOps

    with suppress(Exception):  # damaged EXIF data says nothing about the pixels, which are loaded already
        ImageOps.exif_transpose(image, in_place=True)


def _to_rgb(image: Image) -> Image:
    """RGB, without transparency: pixels keep the colour that is stored under it, as torchvision has it."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits a channel")
    if image.mode.startswith("I"):
        image = _sixteen_bits_to_eight(image)
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _sixteen_bits_to_eight(image: Image) -> Image:
    """Pillow itself would clip 16-bit grey at 255 instead of scaling it."""
    from PIL.Image import fromarray

    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError("its pixels are 32-bit numbers of unknown range; save it with 8 or 16 bits a channel")
    table = np.rint(np.arange(0x10000) / 257).astype(np.uint8)  # by the pixel it would take eight times the memory
    return fromarray(table[values])
