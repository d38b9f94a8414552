"""Images and archives that are made to take much time or memory, or that are damaged in special ways."""

import io
import lzma
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from mbcompress_data.arrays import Arrays
from mbcompress_data.image_folder import ImageFolder
from PIL import Image
from pydantic import ValidationError

from mbcompress.contract.validation import first_problem
from mbcompress.data import decode_image, decoding, images, quiet_pillow
from mbcompress.errors import MbcompressError

SHAPE = (3, 16, 16)


def decode(path: Path) -> np.ndarray:
    with quiet_pillow():
        return decode_image(str(path), SHAPE)


def failure(path: Path) -> str:
    """The sentence, which must come soon."""
    begun = time.monotonic()
    with pytest.raises(MbcompressError) as refused:
        decode(path)
    assert time.monotonic() - begun < 5
    message = str(refused.value)
    assert message.isprintable()
    return message.removeprefix(f"data: cannot read image {str(path)!r}: ")


def test_a_scan_is_not_repeated_without_end(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("L", (4000, 4000)).save(buffer, "JPEG", progressive=True)
    whole = buffer.getvalue()
    begins = [at for at in range(len(whole)) if whole[at : at + 2] == decoding.START_OF_SCAN]
    scan = whole[begins[3] : begins[4]]
    path = tmp_path / "x.jpg"
    path.write_bytes(whole)
    assert decode(path).shape == SHAPE
    path.write_bytes(whole[: begins[3]] + scan * 2000 + whole[begins[3] :])
    assert failure(path) == "its pixels come in more scans than any JPEG needs; save it again"


def test_scans_of_thumbnails_and_films_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    thumbnail = b"Exif\0\0" + (decoding.START_OF_SCAN + b"\0\4" + decoding.END_OF_IMAGE) * 1000
    Image.new("L", (4000, 4000)).save(path, progressive=True, exif=thumbnail)
    path.write_bytes(path.read_bytes() + decoding.START_OF_SCAN * 5000)
    assert decoding._count_scans(str(path)) == 6
    assert decode(path).shape == SHAPE


def test_jpeg_2000_has_a_lower_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.jp2"
    Image.new("RGB", (16, 16)).save(path)
    whole = path.read_bytes()
    assert decode(path).shape == SHAPE
    at = whole.index(b"ihdr") + 4
    path.write_bytes(whole[:at] + (6000).to_bytes(4, "big") * 2 + whole[at + 8 :])
    assert failure(path) == "it has more than 32,000,000 pixels; make it smaller"


@pytest.mark.parametrize("mode", ["1", "P", "I;16"])
def test_as_large_as_it_may_be(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "x.png"
    Image.new(mode, (9400, 9400)).save(path, compress_level=1)
    begun = time.monotonic()
    assert decode(path).shape == SHAPE
    assert time.monotonic() - begun < 10  # on a busy machine; alone it is one


def test_more_arrays_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "x.npz", images=np.zeros((2000, 1, 1), np.uint8), labels=np.arange(2000) % 2)
    monkeypatch.setattr(images, "_physical_memory", lambda: 10**9)
    with pytest.raises(MbcompressError) as refused:
        Arrays(path=tmp_path / "x.npz").load((3, 1024, 1024), 0)
    assert str(refused.value) == "data: 2,000 images of this size need 5.9 GiB of memory"


def test_more_memory_than_there_are_numbers_for() -> None:
    with pytest.raises(MbcompressError, match=r"data: 9,223,372,036,854,775,807 images of this size need .* GiB"):
        images.allocate((2**63 - 1, 3, 16, 16))


def test_arrays_that_are_compressed_too_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, images=np.zeros((40, 256, 256), np.uint8), labels=np.arange(40) % 2)
    Arrays(path=path, calibration=4).load(SHAPE, 0)
    monkeypatch.setattr("mbcompress_data.archive.SMALL_BYTES", 2**20)
    with pytest.raises(MbcompressError, match=r"unpack to 3 MiB from 0\.0 MiB, far more than images would"):
        Arrays(path=path, calibration=4).load(SHAPE, 0)


def test_damaged_members_of_every_compression(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((40, 8, 8), np.uint8))
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = tmp_path / f"{method}.npz"
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("images.npy", buffer.getvalue())
            archive.writestr("labels.npy", buffer.getvalue())
        whole = bytearray(path.read_bytes())
        for at in range(40, 70):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
            with pytest.raises((MbcompressError, ValidationError)):
                Arrays(path=path).load(SHAPE, 0)
    assert not issubclass(lzma.LZMAError, OSError)  # which is why every exception counts as damage


def test_paths_that_no_system_has() -> None:
    for cls in (Arrays, ImageFolder):
        with pytest.raises(ValidationError) as refused:
            cls(path="a\0b")
        assert (
            str(first_problem(refused.value, cls)) == "path: not a path: 'a\\x00b' has characters that no path can have"
        )


def test_members_outside_are_not_written(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    np.savez(inside / "x.npz", images=np.zeros((40, 8, 8), np.uint8), labels=np.arange(40) % 2)
    with zipfile.ZipFile(inside / "x.npz", "a") as archive:
        for name in ("../payload.npy", "../../payload", str(tmp_path / "payload")):
            archive.writestr(name, b"x")
    Arrays(path=inside / "x.npz", calibration=4).load(SHAPE, 0)
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["inside", "x.npz"]


def test_headers_of_members_are_cut_and_made_printable(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, images=np.zeros((40, 8, 8), np.uint8), labels=np.arange(40) % 2)
    whole = path.read_bytes()
    name = whole.index(b"images.npy")
    path.write_bytes(whole[: name - 4] + b"\xff\x1f" + whole[name - 2 :])  # the name is longer than the file says
    with pytest.raises(MbcompressError) as refused:
        Arrays(path=path).load(SHAPE, 0)
    assert len(str(refused.value)) < 200 + len(str(tmp_path))


def test_names_of_members_are_cut_and_made_printable(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for number in range(500):
            archive.writestr(f"\x1b[2J{number}.npy", b"x")
    with pytest.raises(ValidationError) as refused:
        Arrays(path=tmp_path / "x.npz")
    message = str(first_problem(refused.value, Arrays))
    assert message.isprintable()
    assert len(message) < 400 + len(str(tmp_path))
