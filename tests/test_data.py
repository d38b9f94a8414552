"""The built-in datasets: what they deliver, and one sentence for each thing that can be wrong with files."""

import logging
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import mbcompress_data
import numpy as np
import platformdirs
import pytest
from mbcompress_data import arrays, cifar10, cifar_binary, decoding, reading
from mbcompress_data.arrays import Arrays
from mbcompress_data.cifar10 import CLASSES, Cifar10
from mbcompress_data.digits import Digits
from mbcompress_data.folders import list_classes
from mbcompress_data.image_folder import ImageFolder
from mbcompress_data.resizing import Resize
from PIL import Image
from pydantic import ValidationError

from mbcompress.components import Component, Dataset
from mbcompress.data import Images, Splits
from mbcompress.errors import MbcompressError
from mbcompress.validation import first_problem

RGB, GREY = (3, 16, 16), (1, 16, 16)
SMALL: dict[str, Any] = {"calibration": 4}
SPLITS = ("train", "calibration", "validation", "test")
BATCH = 20
DIGITS = np.array([178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
"""How many there are of each digit, as scikit-learn documents it."""


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a cache of its own."""
    monkeypatch.setenv("MBCOMPRESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


def picture(seed: int, size: tuple[int, int] = (16, 16)) -> Image.Image:
    """Coarse noise as RGB; `size` is (width, height)."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.NEAREST)


def write_classes(root: Path, counts: dict[str, int], start: int = 0) -> Path:
    """PNG files, all different."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            start += 1
            picture(start).save(root / name / f"{number:03}.png")
    return root


@pytest.fixture
def undivided(tmp_path: Path) -> Path:
    """30 cats and 20 dogs."""
    return write_classes(tmp_path / "pets", {"dog": 20, "cat": 30})


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    """20 cats and 20 dogs to train on, 5 and 6 to test on."""
    write_classes(tmp_path / "pets/train", {"cat": 20, "dog": 20})
    write_classes(tmp_path / "pets/test", {"cat": 5, "dog": 6}, start=1000)
    return tmp_path / "pets"


def rejection(cls: type[Component], **options: object) -> str:
    """What a recipe's reader would print for these options, without the location."""
    with pytest.raises(ValidationError) as caught:
        cls.model_validate(options)
    return str(first_problem(caught.value, cls))


def failure(load: Callable[[], object]) -> str:
    """The sentence that a load fails with."""
    with pytest.raises(MbcompressError) as caught:
        load()
    message = str(caught.value)
    assert message.startswith("data: ")
    assert "\n" not in message
    return message


def rows(images: Images) -> set[bytes]:
    """The pixels of each image, to compare as sets."""
    return {pixels.tobytes() for pixels in images.pixels}


def check_splits(splits: Splits, shape: tuple[int, int, int]) -> None:
    for name in SPLITS:
        images: Images = getattr(splits, name)
        assert images.pixels.shape == (len(images), *shape)
        assert images.pixels.dtype == np.uint8
        assert images.pixels.flags.c_contiguous
        assert images.labels.dtype == np.int64
        assert set(images.labels) <= set(range(len(splits.classes)))
    assert len(splits.normalization.mean) == len(splits.normalization.std) == shape[0]


# What the plugin offers


def test_hook_offers_the_four_datasets() -> None:
    offered = mbcompress_data.mbcompress_datasets()
    assert {cls.name for cls in offered} == {"digits", "image_folder", "cifar10", "arrays"}
    assert all(issubclass(cls, Dataset) for cls in offered)


@pytest.mark.parametrize("cls", mbcompress_data.mbcompress_datasets())
def test_every_option_is_described(cls: type[Dataset]) -> None:
    assert cls.summary().endswith(".")
    assert all(field.description for field in cls.model_fields.values())
    assert [name for name, field in cls.model_fields.items() if field.is_required()] in ([], ["path"])


def test_import_is_light() -> None:
    code = "import sys, mbcompress_data; print(sorted({'torch', 'PIL', 'scipy'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


# Digits


def test_digits_are_divided() -> None:
    splits = Digits().load((3, 32, 32), seed=0)
    check_splits(splits, (3, 32, 32))
    assert [len(getattr(splits, name)) for name in SPLITS] == [1166, 128, 144, 359]
    parts = [rows(getattr(splits, name)) for name in SPLITS]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 1797
    for name in SPLITS:
        counts = np.bincount(getattr(splits, name).labels, minlength=10)
        assert np.abs(counts - DIGITS * counts.sum() / 1797).max() < 3, name


def test_digits_division_depends_on_the_seed_alone() -> None:
    assert Digits().load(GREY, 1).fingerprint() == Digits().load(GREY, 1).fingerprint()
    assert Digits().load(GREY, 1).fingerprint() != Digits().load(GREY, 2).fingerprint()


def test_digits_grey_is_repeated_and_spans_the_range() -> None:
    grey, colour = (Digits().load(shape, 0).train.pixels for shape in ((1, 8, 8), (3, 8, 8)))
    assert (colour == grey).all()
    assert (grey.min(), grey.max()) == (0, 255)


def test_digits_normalization_is_measured() -> None:
    splits = Digits().load((1, 8, 8), 0)
    values = splits.normalization.apply(np.concatenate([getattr(splits, name).pixels for name in SPLITS]))
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01
    assert splits.augmentation.crop_padding == 2
    assert not splits.augmentation.flip


def test_too_few_digits_for_the_calibration() -> None:
    assert "too few to be divided" in failure(lambda: Digits(calibration=2000).load(RGB, 0))


def test_input_of_four_channels_is_refused() -> None:
    assert failure(lambda: Digits().load((4, 8, 8), 0)) == ("data: images have 1 or 3 channels, but the model wants 4")


# Folders of images


def test_undivided_folder(undivided: Path) -> None:
    splits = ImageFolder(path=undivided, **SMALL).load(RGB, 0)
    check_splits(splits, RGB)
    assert splits.classes == ("cat", "dog")
    assert [len(getattr(splits, name)) for name in SPLITS] == [32, 4, 4, 10]
    assert list(np.bincount(splits.test.labels)) == [6, 4]
    parts = [rows(getattr(splits, name)) for name in SPLITS]
    assert len(set.union(*parts)) == 50
    assert splits.fingerprint() == ImageFolder(path=undivided, **SMALL).load(RGB, 0).fingerprint()
    assert splits.normalization.mean == (0.485, 0.456, 0.406)
    assert splits.augmentation.crop_padding == 4
    assert splits.augmentation.flip


def test_labels_belong_to_their_pixels(undivided: Path) -> None:
    splits = ImageFolder(path=undivided, **SMALL).load(RGB, 0)
    with Image.open(undivided / "dog/000.png") as image:
        dog = np.asarray(image).transpose(2, 0, 1).tobytes()
    found = {
        p.tobytes(): label
        for part in SPLITS
        for p, label in zip(getattr(splits, part).pixels, getattr(splits, part).labels, strict=True)
    }
    assert found[dog] == 1


def test_official_test_stays_the_test(divided: Path) -> None:
    write_classes(divided / "val", {"cat": 1})  # not read
    splits = ImageFolder(path=divided, **SMALL).load(RGB, 3)
    assert len(splits.test) == 11
    listing = list_classes(divided / "test")
    (official,) = reading.read([listing], RGB, "crop")
    assert rows(splits.test) == rows(official)
    assert sum(len(getattr(splits, name)) for name in SPLITS) == 51


def test_share_is_refused_beside_an_official_test(divided: Path) -> None:
    message = rejection(ImageFolder, path=str(divided), test=0.3)
    assert message == f"test: {str(divided)!r} has a test folder of its own; remove this option"
    ImageFolder.model_validate(ImageFolder(path=divided).model_dump())  # a resolved recipe can be run again


def test_path_must_be_a_folder(tmp_path: Path) -> None:
    assert rejection(ImageFolder, path="x") == "path: no such directory 'x'"
    (tmp_path / "file").touch()
    assert rejection(ImageFolder, path=str(tmp_path / "file")) == f"path: not a directory: '{tmp_path / 'file'}'"
    assert rejection(ImageFolder) == "'path' is missing"
    assert rejection(ImageFolder, path="~nobody-by-this-name/x") == "path: no such user in '~nobody-by-this-name/x'"


def test_home_is_expanded(undivided: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(undivided.parent))
    assert ImageFolder.model_validate({"path": "~/pets"}).path == undivided


def test_mean_and_std_are_checked(undivided: Path) -> None:
    path = str(undivided)
    assert "one number, or three" in rejection(ImageFolder, path=path, mean=[0.5, 0.5])
    assert rejection(ImageFolder, path=path, std=[0]) == "std[0]: must be greater than 0, got 0"


def test_grey_model_gets_luma_weighted_values(undivided: Path) -> None:
    splits = ImageFolder(path=undivided, **SMALL).load(GREY, 0)
    check_splits(splits, GREY)
    assert splits.normalization.mean == pytest.approx((0.458971,))


def break_folder(root: Path, how: str) -> None:
    if how == "empty":
        shutil.rmtree(root / "train")
        (root / "train").mkdir()
    elif how == "no images":
        (root / "train/empty").mkdir()
        (root / "train/empty/.DS_Store").touch()
    elif how == "only in test":
        write_classes(root / "test", {"frog": 1})
    elif how == "only in train":
        shutil.rmtree(root / "test/dog")
    elif how == "nested":
        (root / "train/cat/more").mkdir()
    elif how == "no test":
        shutil.rmtree(root / "test")
    elif how == "pipe":
        os.mkfifo(root / "train/cat/pipe.png")
    elif how == "broken link":
        (root / "train/cat/link.png").symlink_to("nowhere")
    elif how == "loop":
        (root / "train/cat/loop.png").symlink_to("loop.png")


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("empty", "pets/train' has no class folders"),
        ("no images", "class folder '{root}/train/empty' has no images"),
        ("only in test", "class 'frog' is in '{root}/test' but not in '{root}/train'"),
        ("only in train", "class 'dog' is in '{root}/train' but not in '{root}/test'"),
        ("nested", "'{root}/train/cat/more' is a folder inside a class folder"),
        ("no test", "'{root}/train/cat' is a folder inside a class folder"),
        ("pipe", "'{root}/train/cat/pipe.png' is not a file that can be read"),
        ("broken link", "'{root}/train/cat/link.png' is not a file that can be read"),
        ("loop", "{root}/train/cat"),
    ],
)
def test_broken_folders(divided: Path, how: str, expected: str) -> None:
    break_folder(divided, how)
    assert expected.format(root=divided) in failure(lambda: ImageFolder(path=divided).load(RGB, 0))


def test_folder_that_vanished_after_validation(undivided: Path) -> None:
    dataset = ImageFolder(path=undivided)
    shutil.rmtree(undivided)
    assert failure(lambda: dataset.load(RGB, 0)) == f"data: cannot list {str(undivided)!r}: No such file or directory"


# One file


def decode(path: Path, shape: tuple[int, int, int] = RGB, how: Resize = "crop") -> Any:
    with decoding.decoder() as formats:
        return decoding.decode(str(path), shape, how, formats)


def test_colour_modes_give_the_same_picture(tmp_path: Path) -> None:
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


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
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
    red, blue = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    red.save(tmp_path / "a.gif", save_all=True, append_images=[blue])
    assert decode(tmp_path / "a.gif")[:, 0, 0].tolist() == [255, 0, 0]


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
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
        "mend it or move it elsewhere"
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


# The cache


def count_decoding(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    decoded: list[str] = []
    original = decoding.decode

    def counting(path: str, *rest: Any) -> Any:
        decoded.append(path)
        return original(path, *rest)

    monkeypatch.setattr(reading, "decode", counting)
    return decoded


def test_files_are_decoded_once(undivided: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = count_decoding(monkeypatch)
    first = ImageFolder(path=undivided, **SMALL).load(RGB, 0)
    assert len(decoded) == 50
    assert [entry.suffix for entry in cache_folder.iterdir()] == [".npy"]
    assert ImageFolder(path=undivided, **SMALL).load(RGB, 0).fingerprint() == first.fingerprint()
    assert len(decoded) == 50
    picture(999).save(undivided / "cat/000.png")
    os.utime(undivided / "cat/000.png", ns=(1, 1))
    assert ImageFolder(path=undivided, **SMALL).load(RGB, 0).fingerprint() != first.fingerprint()
    assert len(decoded) == 100
    ImageFolder(path=undivided, resize="stretch", **SMALL).load(RGB, 0)
    ImageFolder(path=undivided, **SMALL).load(GREY, 0)
    assert len(decoded) == 200


@pytest.mark.parametrize("damage", ["flip a bit", "truncate", "empty", "append", "header", "pickle", "zip", "huge"])
def test_damaged_entries_are_decoded_again(
    undivided: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    first = ImageFolder(path=undivided, **SMALL).load(RGB, 0)
    (entry,) = cache_folder.iterdir()
    whole = entry.read_bytes()
    damaged = {
        "flip a bit": whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
        "truncate": whole[:-1],
        "empty": b"",
        "append": whole + b"x",
        "header": whole.replace(b"{'descr'", b"{{[((((,"),
        "pickle": b"\x80\x04]" + whole,
        "zip": b"PK\x03\x04" + whole,
        "huge": whole + bytes(10_000),
    }[damage]
    entry.write_bytes(damaged)
    decoded = count_decoding(monkeypatch)
    assert ImageFolder(path=undivided, **SMALL).load(RGB, 0).fingerprint() == first.fingerprint()
    assert len(decoded) == 50
    assert entry.read_bytes() == whole


def test_unwritable_cache(undivided: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("MBCOMPRESS_CACHE", str(undivided / "cat/000.png"))  # a file, where a folder is needed
    with caplog.at_level(logging.WARNING):
        check_splits(ImageFolder(path=undivided, **SMALL).load(RGB, 0), RGB)
    assert "could not be kept" in caplog.text


def test_full_disk_leaves_nothing_behind(
    undivided: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    check_splits(ImageFolder(path=undivided, **SMALL).load(RGB, 0), RGB)
    assert list(cache_folder.iterdir()) == []
    assert "No space left on device" in caplog.text


def test_bad_files_are_never_cached(undivided: Path, cache_folder: Path) -> None:
    (undivided / "cat/010.png").write_bytes(b"")
    failure(lambda: ImageFolder(path=undivided, **SMALL).load(RGB, 0))
    assert not cache_folder.exists()


# CIFAR-10


@pytest.fixture
def binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The binary archive as it unpacks, with 20 images a file."""
    monkeypatch.setattr(cifar_binary, "RECORDS", BATCH)
    folder = tmp_path / "cifar/cifar-10-batches-bin"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in (*cifar_binary.TRAIN, cifar_binary.TEST):
        records = generator.integers(0, 256, (BATCH, 3073), np.uint8)
        records[:, 0] = np.arange(BATCH) % 10
        records.tofile(folder / name)
    return folder


def test_binary_cifar10(binary: Path) -> None:
    shape = (3, 32, 32)
    for path in (binary, binary.parent):
        splits = Cifar10(path=path, calibration=10).load(shape, 0)
        check_splits(splits, shape)
        assert [len(getattr(splits, name)) for name in SPLITS] == [80, 10, 10, 20]
        official = np.fromfile(binary / "test_batch.bin", np.uint8).reshape(BATCH, 3073)
        assert (splits.test.pixels == official[:, 1:].reshape(BATCH, 3, 32, 32)).all()
        assert (splits.test.labels == official[:, 0]).all()
        assert splits.classes == CLASSES
        assert splits.augmentation.crop_padding == 4
        assert splits.augmentation.flip


@pytest.mark.parametrize("shape", [(3, 24, 24), (1, 32, 32), (1, 48, 40)])
def test_binary_cifar10_of_another_size(binary: Path, shape: tuple[int, int, int]) -> None:
    check_splits(Cifar10(path=binary, calibration=10).load(shape, 0), shape)


def test_cifar10_as_folders(tmp_path: Path) -> None:
    write_classes(tmp_path / "c/train", dict.fromkeys(CLASSES, 4))
    write_classes(tmp_path / "c/test", dict.fromkeys(CLASSES, 1), start=500)
    splits = Cifar10(path=tmp_path / "c", **SMALL).load((3, 32, 32), 0)
    check_splits(splits, (3, 32, 32))
    assert len(splits.test) == 10
    for part in ("train", "test"):
        (tmp_path / "c" / part / "cat").rename(tmp_path / "c" / part / "kitten")
    assert "must be airplane, automobile" in failure(lambda: Cifar10(path=tmp_path / "c").load(RGB, 0))


def test_cifar10_is_refused_as_pickles(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02}")
    message = rejection(Cifar10, path=str(tmp_path))
    assert "Python version of CIFAR-10" in message
    assert "the binary version is needed" in message


def test_cifar10_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"path: no CIFAR-10 in '{tmp_path}'; unpack cifar-10-binary" in rejection(Cifar10, path=str(tmp_path))
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    dataset = Cifar10()  # a recipe that uses the default is valid on any machine
    assert f"data: no CIFAR-10 in '{tmp_path}/mbcompress/cifar10'; unpack" in failure(lambda: dataset.load(RGB, 0))
    (tmp_path / "cifar-10-binary.tar.gz").touch()
    assert "is still packed" in rejection(Cifar10, path=str(tmp_path))


def test_cifar10_files_are_checked(binary: Path) -> None:
    dataset = Cifar10(path=binary)
    whole = (binary / "data_batch_3.bin").read_bytes()
    (binary / "data_batch_3.bin").write_bytes(whole[:-1])
    assert f"data_batch_3.bin' must have {BATCH * 3073:,} bytes, has" in failure(lambda: dataset.load(RGB, 0))
    (binary / "data_batch_3.bin").write_bytes(b"\x0a" + whole[1:])
    assert "labels are not all below 10" in failure(lambda: dataset.load(RGB, 0))
    (binary / "data_batch_3.bin").unlink()
    assert "'data_batch_3.bin' is missing in" in failure(lambda: dataset.load(RGB, 0))
    assert "'data_batch_3.bin' is missing in" in rejection(Cifar10, path=str(binary))


@pytest.mark.cifar10
@pytest.mark.skipif(not cifar10.default_path().is_dir(), reason="CIFAR-10 is not there")
def test_real_cifar10(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MBCOMPRESS_CACHE")
    splits = Cifar10().load((3, 32, 32), 0)
    check_splits(splits, (3, 32, 32))
    assert [len(getattr(splits, name)) for name in SPLITS] == [44872, 128, 5000, 10000]
    assert np.bincount(splits.test.labels).tolist() == [1000] * 10
    values = splits.normalization.apply(splits.train.pixels[:5000])
    assert np.abs(values.mean((0, 2, 3))).max() < 0.03
    assert np.abs(values.std((0, 2, 3)) - 1).max() < 0.03


# Arrays


def write_arrays(path: Path, **changes: Any) -> Path:
    """60 grey images of 3 classes, divided as in MedMNIST; None leaves an array out."""
    generator = np.random.default_rng(0)
    contents: dict[str, Any] = {}
    for part, count in (("train", 60), ("val", 9), ("test", 12)):
        contents[f"{part}_images"] = generator.integers(0, 256, (count, 16, 16), np.uint8)
        contents[f"{part}_labels"] = (np.arange(count) % 3).astype(np.uint8)[:, None]
    contents |= changes
    np.savez_compressed(path, **{name: array for name, array in contents.items() if array is not None})
    return path


def test_divided_arrays(tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "x.npz")
    splits = Arrays(path=path, **SMALL).load(RGB, 0)
    check_splits(splits, RGB)
    assert splits.classes == ("0", "1", "2")
    with np.load(path) as archive:
        assert (splits.test.pixels == archive["test_images"][:, None]).all()
        assert (splits.test.labels == archive["test_labels"][:, 0]).all()
    assert sum(len(getattr(splits, name)) for name in SPLITS) == 72  # without val_images
    message = rejection(Arrays, path=str(path), test=0.5)
    assert message == f"test: {str(path)!r} has test images of its own; remove this option"


@pytest.mark.parametrize("size", [(16, 16), (20, 12)])
@pytest.mark.parametrize("shape", [RGB, GREY])
def test_layouts_of_arrays_agree(tmp_path: Path, size: tuple[int, int], shape: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(50) % 2
    for channels in (1, 3):
        last = generator.integers(0, 256, (50, *size, channels), np.uint8)
        variants = [last, last.transpose(0, 3, 1, 2), *([last[..., 0]] if channels == 1 else [])]
        prints = set()
        for images in variants:
            np.savez(tmp_path / "x.npz", images=images, labels=labels)
            splits = Arrays(path=tmp_path / "x.npz", test=0.1, **SMALL).load(shape, 0)
            check_splits(splits, shape)
            assert len(splits.test) == 5
            prints.add(splits.fingerprint())
        assert len(prints) == 1


IMAGES, LABELS = np.zeros((60, 16, 16), np.uint8), np.arange(60) % 3


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"train_images": IMAGES.astype(np.float32)},
            "'train_images' in '{path}' must hold integers, not float32 values",
        ),
        ({"train_images": IMAGES.astype(np.int16)}, "'train_images' must be uint8, from 0 to 255, got int16"),
        ({"train_labels": LABELS.astype(object)}, "'train_labels' in '{path}' must hold integers, not Python objects"),
        ({"train_labels": LABELS.astype(str)}, "'train_labels' in '{path}' must hold integers, not <U"),
        ({"train_labels": LABELS[:-1]}, "'train_images' has 60 images but 'train_labels' has 59 labels"),
        ({"train_labels": LABELS - 1}, "'train_labels' must be class numbers from 0 and below 100000, got -1"),
        (
            {"train_labels": LABELS * 10**9},
            "'train_labels' must be class numbers from 0 and below 100000, got 2000000000",
        ),
        ({"train_labels": np.zeros((60, 14), int)}, "'train_labels' must be one label for each image, (N,) or (N, 1)"),
        ({"train_labels": LABELS[:0]}, "'train_labels' must be one label for each image"),
        ({"train_images": IMAGES[:0]}, "'train_images' must be (N, H, W)"),
        ({"train_images": np.zeros((60, 16, 16, 4), np.uint8)}, "1 or 3 channels, got (60, 16, 16, 4)"),
        ({"train_images": np.zeros((60, 256), np.uint8)}, "1 or 3 channels, got (60, 256)"),
        ({"test_labels": np.full(12, 7)}, "label 7 is in 'test_labels' but not in 'train_labels'"),
        ({"train_images": IMAGES[:3], "train_labels": LABELS[:3]}, "3 images are too few to be divided"),
    ],
)
def test_wrong_arrays(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    path = write_arrays(tmp_path / "x.npz", **changes)
    assert expected.format(path=path) in failure(lambda: Arrays(path=path).load(RGB, 0))


def test_wrong_archives(tmp_path: Path) -> None:
    assert rejection(Arrays, path="x.npz") == "path: no such file 'x.npz'"
    assert rejection(Arrays, path=str(tmp_path)) == f"path: not a file: {str(tmp_path)!r}"
    (tmp_path / "x.npz").write_bytes(b"no zip")
    assert rejection(Arrays, path=str(tmp_path / "x.npz")) == f"path: not an .npz file: '{tmp_path}/x.npz'"
    np.savez(tmp_path / "x.npz", images=IMAGES, targets=LABELS)
    assert rejection(Arrays, path=str(tmp_path / "x.npz")).endswith("found images, targets")


def test_zip_bomb_is_not_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mbcompress_data.archive.MAX_BYTES", 2**20)
    path = write_arrays(tmp_path / "x.npz", train_images=np.zeros((60, 256, 256), np.uint8))
    assert path.stat().st_size < 2**17
    monkeypatch.setattr(arrays, "fit", None)
    assert "would take 0.0 GiB of memory, more than" in failure(lambda: Arrays(path=path).load(RGB, 0))


def test_header_that_declares_more_than_there_is(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    lying = (tmp_path / "x.npy").read_bytes().replace(b"(60, 16, 16), }       ", b"(60000000, 16, 160), }")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", lying)
        archive.writestr("labels.npy", lying)
    message = failure(lambda: Arrays(path=tmp_path / "x.npz").load(RGB, 0))
    assert message.endswith("is damaged: the size of 'images' is not what its header says")


def test_damaged_archives(tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "x.npz")
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    generator = np.random.default_rng(0)
    for _ in range(100):
        damaged = whole.copy()
        damaged[generator.integers(0, len(whole), 20)] ^= 0x55
        path.write_bytes(damaged.tobytes())
        try:
            dataset = Arrays(path=path)
        except ValidationError:
            continue
        failure(lambda dataset=dataset: dataset.load(RGB, 0))  # type: ignore[misc]
