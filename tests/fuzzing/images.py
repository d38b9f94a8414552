"""Damaged image files, read by `image_folder`."""

import io
import os
import struct
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from mbcompress_data.image_folder import ImageFolder
from PIL import Image

from fuzzing import damage
from fuzzing.suites import Reading

SIZES = (1, 7, 16, 40)
FORMATS: dict[str, tuple[str, ...]] = {
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "jpg": ("L", "RGB", "CMYK"),
    "gif": ("1", "L", "P", "RGB", "RGBA"),
    "tif": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr", "LAB"),
    "webp": ("RGB", "RGBA"),
    "bmp": ("1", "L", "P", "RGB", "RGBA"),
    "ppm": ("1", "L", "RGB", "I;16"),
    "avif": ("RGB", "RGBA"),
    "jp2": ("L", "RGB", "RGBA"),
}
COMPRESSIONS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4")
NO_IMAGES = (
    b"", b"\0", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08", b"BM", b"P6",
    b"P6 99999 99999 255\n", b"P5\n999999999 999999999\n65535\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x1f\x8b\x08\0", b"PK\x03\x04", b"RIFF\xff\xff\xff\xffWEBPVP8X", b"#!/bin/sh",
)  # fmt: skip


class Images:
    """One damaged file among sound ones."""

    def __init__(self, folder: Path) -> None:
        os.environ["MBCOMPRESS_CACHE"] = str(folder / "cache")
        self.photos = folder / "photos"
        for name in ("cat", "dog"):
            (self.photos / name).mkdir(parents=True)
            for number in range(6):
                _noise("RGB", 8).save(self.photos / name / f"{number}.png")
        self.wholes = [each for suffix, modes in FORMATS.items() for mode in modes for each in _saved(suffix, mode)]
        self.wholes += [
            ("png", _flat_png(width, height)) for width, height in ((30_000, 2_900), (1, 10**6), (10**6, 1))
        ]

    def prepare(self, random: Random, folder: Path) -> Reading:
        suffix, content = random.choice(self.wholes)
        path = self.photos / "cat" / f"x.{suffix}"
        for old in path.parent.glob("x.*"):
            old.unlink()
        path.write_bytes(_damaged(random, suffix, content))
        shape = random.choice(((3, 16, 16), (1, 16, 16), (3, 8, 24)))
        dataset = ImageFolder(path=self.photos, calibration=1, resize=random.choice(("crop", "stretch", "pad")))
        return lambda: dataset.load(shape, 0)


def _noise(mode: str, size: int) -> Image.Image:
    values = np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)
    match mode:
        case "I;16":
            return Image.fromarray(values[..., 0].astype(np.uint16) * 257)
        case "I":
            return Image.fromarray(values[..., 0].astype(np.int32) * 257)
        case "F":
            return Image.fromarray(values[..., 0].astype(np.float32))
        case "LAB":
            return Image.frombytes("LAB", (size, size), values.tobytes())
    return Image.fromarray(values).convert(mode)


def _saved(suffix: str, mode: str) -> list[tuple[str, bytes]]:
    """Of every size; compressed in every way; animated where there is such a thing."""
    ways: list[dict[str, Any]] = [{}]
    if suffix == "tif":
        ways = [{"compression": name} for name in COMPRESSIONS]
    if suffix == "jpg":
        ways += [{"progressive": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"}]
    if suffix == "png":
        ways += [{"transparency": 0}, {"icc_profile": b"x" * 200}]
    if suffix in ("gif", "png", "tif", "webp", "avif"):
        ways += [
            {
                "save_all": True,
                "append_images": [_noise("RGB", 9).convert(mode if mode[0] not in "IF" and mode != "LAB" else "L")] * 3,
            }
        ]
    found = []
    for way in ways:
        for size in SIZES:
            buffer = io.BytesIO()
            try:
                _noise(mode, size).save(
                    buffer, "JPEG2000" if suffix == "jp2" else Image.registered_extensions()[f".{suffix}"], **way
                )
            except Exception:  # not every mode can be written every way
                continue
            found.append((suffix, buffer.getvalue()))
    return found


def _flat_png(width: int, height: int) -> bytes:
    """Black, of one bit a pixel: large in memory and small on disk."""
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def _damaged(random: Random, suffix: str, content: bytes) -> bytes:
    chance = random.random()
    if chance < 0.03:
        return random.choice(NO_IMAGES)
    if chance < 0.06:
        return content
    if chance < 0.15:
        return content[: random.randrange(len(content))]
    if chance < 0.5:
        match suffix:
            case "png":
                return _in_png(random, content)
            case "tif":
                return _in_tiff(random, content)
            case "jpg":
                return _in_jpeg(random, content)
            case "gif":
                return content[:6] + struct.pack("<HH", *random.choices(EDGES, k=2)) + content[10:]
            case "bmp":
                return (
                    content[:18]
                    + struct.pack("<ii", *random.choices((*EDGES, -1, -(2**31), 2**31 - 1), k=2))
                    + content[26:]
                )
            case "ppm":
                return content[:2] + f" {random.choice(EDGES)} {random.choice(EDGES)} ".encode() + content[3:]
    return damage.in_bytes(random, content)


EDGES = (0, 1, 2, 16, 255, 4000, 9000, 9460, 30_000, 65_535)


def _in_png(random: Random, content: bytes) -> bytes:
    """One chunk is changed, and its checksum made right."""
    chunks = []
    at = 8
    while at + 8 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    place = random.randrange(len(chunks))
    kind, body = chunks[place]
    match random.randrange(4):
        case 0:
            place, sizes = 0, [random.choice((*EDGES, 2**31 - 1)) for _ in range(2)]
            kind, body = chunks[0][0], struct.pack(">II", *sizes) + chunks[0][1][8:]
        case 1 if body:
            body = damage.in_bytes(random, body)
        case 2:
            kind, body = random.choice(((b"zTXt", b"a\0\0" + zlib.compress(bytes(10**7))), (b"iCCP", b"a\0\0" + zlib.compress(bytes(10**7))),
                                        (b"tRNS", b"\0" * 300), (b"acTL", b"\xff" * 8), (b"fcTL", b"\xff" * 26), (b"eXIf", b"MM\0*\xff\xff\xff\xff")))  # fmt: skip
            chunks.insert(1, (kind, body))
            place = 1
        case 3:
            chunks.insert(random.randrange(len(chunks)), (kind, body))
    chunks[place] = (kind, body)
    packed = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    return content[:8] + b"".join(packed)


def _in_tiff(random: Random, content: bytes) -> bytes:
    """One entry of the first directory: its tag, type, count or value."""
    order = "<" if content[:2] == b"II" else ">"
    (start,) = struct.unpack(f"{order}I", content[4:8])
    (count,) = struct.unpack(f"{order}H", content[start : start + 2])
    at = start + 2 + 12 * random.randrange(count)
    if at + 12 > len(content):
        return damage.in_bytes(random, content)
    tag, kind, number, value = struct.unpack(f"{order}HHII", content[at : at + 12])
    match random.randrange(4):
        case 0:
            tag = random.choice(
                (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 339, 347, 34665)
            )
        case 1:
            kind = random.randrange(16)
        case 2:
            number = random.choice(damage.SIZES) % 2**32
        case 3:
            value = random.choice((*damage.SIZES, *EDGES, start)) % 2**32
    return content[:at] + struct.pack(f"{order}HHII", tag, kind, number, value) + content[at + 12 :]


def _in_jpeg(random: Random, content: bytes) -> bytes:
    """The size that a frame declares, or one of the markers."""
    places = [at for at in range(len(content) - 9) if content[at] == 0xFF and content[at + 1] in (0xC0, 0xC2)]
    if places and random.random() < 0.5:
        at = random.choice(places) + 5
        return content[:at] + struct.pack(">HH", *random.choices(EDGES, k=2)) + content[at + 4 :]
    markers = [at + 1 for at in range(len(content) - 1) if content[at] == 0xFF and content[at + 1] not in (0, 0xFF)]
    at = random.choice(markers)
    return (
        content[:at]
        + bytes([random.choice((0xC0, 0xC1, 0xC2, 0xC4, 0xC9, 0xDA, 0xDB, 0xDD, 0xE1, 0xFE, 0xD9, 0xD0))])
        + content[at + 1 :]
    )
