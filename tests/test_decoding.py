"""One image file: its pixels, and one sentence for each problem."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import RGB, failure, picture
from pictures import cache_folder as cache_folder
from PIL import Image

from mbcompress.data import Resize, decode_image, decoding, quiet_pillow
from mbcompress.errors import MbcompressError


def decode(path: Path, shape: tuple[int, int, int] = RGB, how: Resize = "crop") -> Any:
    with quiet_pillow():
        return decode_image(str(path), shape, how)


def test_color_modes_give_the_same_picture(tmp_path: Path) -> None:
    original = picture(1)
    expected = np.asarray(original).transpose(2, 0, 1)
    palette = original.quantize(64)
    transparent = palette.copy()
    transparent.info["transparency"] = bytes(range(64))
    for name, image in {"p.png": palette, "t.png": transparent, "rgba.png": original.convert("RGBA")}.items():
        image.save(tmp_path / name)
        assert np.abs(decode(tmp_path / name).astype(int) - expected).max() <= 1, name
    for name, tolerance in {"cmyk.tif": 1, "cmyk.jpg": 8}.items():
        original.convert("CMYK").save(tmp_path / name, quality=98)
        assert np.abs(decode(tmp_path / name).astype(int) - expected).mean() <= tolerance, name


def test_16_bit_gray_is_scaled_not_clipped(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for suffix in ("png", "tif", "pgm"):
        Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
        decoded = decode(tmp_path / f"deep.{suffix}")
        assert (decoded == np.arange(256).reshape(16, 16)).all(), suffix


@pytest.mark.parametrize(("dtype", "problem"), [("float32", "floating-point"), ("int32", "32-bit numbers")])
def test_unknown_ranges_are_refused(tmp_path: Path, dtype: str, problem: str) -> None:
    Image.fromarray(np.full((8, 8), 100_000, dtype)).save(tmp_path / "x.tif")
    message = failure(lambda: decode(tmp_path / "x.tif"))
    assert problem in message
    assert str(tmp_path / "x.tif") in message


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (16, 16), color) for color in ("red", "blue"))
    red.save(tmp_path / "a.gif", save_all=True, append_images=[blue])
    assert decode(tmp_path / "a.gif")[:, 0, 0].tolist() == [255, 0, 0]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn right
    wide = Image.new("RGB", (32, 16))
    wide.paste("white", (0, 0, 16, 16))
    wide.save(tmp_path / "turned.png", exif=exif)
    decoded = decode(tmp_path / "turned.png", (1, 32, 16))
    assert decoded[0, :16].min() == 255
    assert decoded[0, 16:].max() == 0


def test_damaged_exif_does_not_matter(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\3")
    assert decode(tmp_path / "x.jpg").shape == RGB


@pytest.mark.parametrize(("how", "edge"), [("crop", 255), ("stretch", 0), ("pad", 0)])
def test_resize(tmp_path: Path, how: Resize, edge: int) -> None:
    image = Image.new("L", (96, 32))
    image.paste(255, (32, 0, 64, 32))  # a white square in the middle third
    image.save(tmp_path / "x.png")
    decoded = decode(tmp_path / "x.png", (1, 16, 16), how)[0]
    assert decoded[8, 0] == pytest.approx(edge, abs=40)  # the filter reaches a little beyond the crop
    assert decoded[8, 8] == 255
    assert decoded[0, 8] == (0 if how == "pad" else 255)


@pytest.mark.parametrize("how", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (1, 3000)])
def test_extreme_sizes(tmp_path: Path, how: Resize, size: tuple[int, int]) -> None:
    picture(1, size).save(tmp_path / "x.png")
    assert decode(tmp_path / "x.png", (3, 8, 24), how).shape == (3, 8, 24)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "bmp", "tif"])
def test_truncated_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    for length in (0, 1, 10, len(whole) // 2, len(whole) - 200):
        path.write_bytes(whole[:length])
        assert failure(lambda: decode(path)).startswith(f"data: cannot read image {str(path)!r}: ")


def test_no_image(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("buy milk")
    assert failure(lambda: decode(tmp_path / "notes.txt")) == (
        f"data: cannot read image '{tmp_path}/notes.txt': it is not an image in a known format; "
        "repair it or move it elsewhere"
    )
    (tmp_path / "x.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    assert "not an image in a known format" in failure(lambda: decode(tmp_path / "x.eps"))  # would run Ghostscript
    assert "No such file or directory" in failure(lambda: decode(tmp_path / "gone.png"))


@pytest.mark.parametrize("limit", [100, 200, 10_000])
def test_decompression_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    picture(1).save(tmp_path / "x.png")  # 256 pixels: an error, a warning or nothing to Pillow
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100)
    assert "it has more than 100 pixels" in failure(lambda: decode(tmp_path / "x.png"))


def test_fuzzed_files_give_a_sentence_or_a_picture(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for suffix in ("jpg", "png", "gif", "webp", "tif", "ppm", "bmp"):
        path = tmp_path / f"x.{suffix}"
        picture(2).save(path)
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(20):
            damaged = whole.copy()
            damaged[generator.integers(0, len(whole), 8)] = generator.integers(0, 256, 8)
            path.write_bytes(damaged.tobytes())
            with suppress(MbcompressError):
                assert decode(path).shape == RGB
