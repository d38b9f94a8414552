"""Decode an image file of any common format and color mode, with limits on memory and time."""

from __future__ import annotations

import mmap
import re
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mbcompress.data.images import Resize, Shape, pil_to_array
from mbcompress.errors import MbcompressError, brief

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""Formats that Pillow decodes itself; not EPS, which Ghostscript would execute."""

MAX_PIXELS = 89_478_485
"""Pillow's threshold for decompression bombs: 256 MiB in RGB."""

MAX_SLOW_PIXELS = 32_000_000
"""Limit for JPEG 2000, which is ten times slower to decode."""

MAX_SCANNED = 50 * MAX_PIXELS
"""Limit on pixels times scans of a progressive JPEG: a scan of a hundred bytes can touch every pixel."""

MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
"""Start of a JPEG segment; in compressed data, 0xff is followed by zero or a restart number."""

START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Load Pillow's formats and silence its warnings; both are global, so use it once, outside of threads."""
    from PIL import Image

    Image.init()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decode_image(path: str, shape: Shape, how: Resize = "crop") -> NDArray[np.uint8]:
    """Return the first frame of an image file as (C, H, W) uint8 of `shape`, with EXIF orientation applied.

    Raises:
        MbcompressError: the file cannot be read, is not an image, is truncated, or is too large.
    """
    from PIL import Image, UnidentifiedImageError

    Image.init()
    try:
        with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            _refuse_enormous(image, path)
            image.load()
            _turn_upright(image)
            return pil_to_array(image, shape, how)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        problem = _too_many(MAX_PIXELS)
    except UnidentifiedImageError:
        problem = "it is not an image in a known format; repair it or move it elsewhere"
    except Exception as error:  # Pillow can raise anything on damaged files
        problem = brief(str(getattr(error, "strerror", None) or error) or type(error).__name__)
    raise MbcompressError(f"data: cannot read image {path!r}: {problem}")


def _refuse_enormous(image: Image, path: str) -> None:
    """Raise ValueError if decoding would take gigabytes or minutes."""
    pixels = image.width * image.height
    limit = MAX_SLOW_PIXELS if image.format == "JPEG2000" else MAX_PIXELS
    if pixels > limit:
        raise ValueError(_too_many(limit))
    if image.format in ("JPEG", "MPO") and pixels * _count_scans(path) > MAX_SCANNED:
        raise ValueError("its pixels come in more scans than any JPEG needs; save it again")


def _too_many(limit: int) -> str:
    return f"it has more than {limit:,} pixels; make it smaller"


def _count_scans(path: str) -> int:
    """Count the scans of a JPEG file, without those of an embedded thumbnail or an appended video."""
    scans, at = 0, 0
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while (marker := MARKER.search(content, at)) and marker[0] != END_OF_IMAGE:
            scans += marker[0] == START_OF_SCAN
            at = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
    return scans


def _turn_upright(image: Image) -> None:
    from PIL import ImageOps

    with suppress(Exception):  # damaged EXIF data does not affect the pixels, which are already loaded
        ImageOps.exif_transpose(image, in_place=True)
