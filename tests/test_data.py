"""The built-in datasets of digits and folders, and their cache: splits, and one sentence for each mistake."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mbcompress_data
import numpy as np
import pytest
from mbcompress_data import reading
from mbcompress_data.digits import Digits
from mbcompress_data.folders import list_classes
from mbcompress_data.image_folder import ImageFolder
from pictures import GRAY, RGB, SMALL, SPLITS, check_splits, failure, picture, rejection, rows, write_classes
from pictures import cache_folder as cache_folder
from PIL import Image

from mbcompress import Splits
from mbcompress.contract.datasets import Dataset

DIGITS = np.array([178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
"""Images of each digit, as scikit-learn documents them."""


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
    assert Digits().load(GRAY, 1).fingerprint() == Digits().load(GRAY, 1).fingerprint()
    assert Digits().load(GRAY, 1).fingerprint() != Digits().load(GRAY, 2).fingerprint()


def test_digits_gray_is_repeated_and_spans_the_range() -> None:
    gray, color = (Digits().load(shape, 0).train.pixels for shape in ((1, 8, 8), (3, 8, 8)))
    assert (color == gray).all()
    assert (gray.min(), gray.max()) == (0, 255)


def test_digits_normalization_is_measured() -> None:
    splits = Digits().load((1, 8, 8), 0)
    values = splits.normalization.apply(np.concatenate([getattr(splits, name).pixels for name in SPLITS]))
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01
    assert splits.augmentation.crop_padding == 2
    assert not splits.augmentation.flip


@pytest.mark.parametrize("kept", [(), ("test",), ("validation",), ("calibration", "test"), SPLITS[1:]])
def test_splits_that_are_given_are_kept(kept: tuple[str, ...]) -> None:
    digits = Digits().load(GRAY, 0)
    given = {name: getattr(digits, name) for name in kept}
    amounts = {"test": 0.25, "validation": 0.5, "calibration": 100}
    rest = {"classes": digits.classes, "normalization": digits.normalization, "augmentation": digits.augmentation}
    divided = Splits.divide(digits.train, seed=3, **{**amounts, **given}, **rest)
    assert all(getattr(divided, name) is images for name, images in given.items())
    parts = [rows(getattr(divided, name)) for name in SPLITS if name not in given]
    assert len(set.union(*parts)) == sum(map(len, parts)) == len(digits.train)
    if "calibration" not in given:
        assert len(divided.calibration) == 100
    if len(given) == 3:
        assert divided.train is digits.train


def test_too_few_digits_for_the_calibration() -> None:
    assert "too few to split" in failure(lambda: Digits(calibration=2000).load(RGB, 0))


def test_input_of_four_channels_is_refused() -> None:
    assert failure(lambda: Digits().load((4, 8, 8), 0)) == ("data: images have 1 or 3 channels, but the model takes 4")


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


def test_fraction_is_refused_beside_an_official_test(divided: Path) -> None:
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


def test_gray_model_gets_luma_weighted_values(undivided: Path) -> None:
    splits = ImageFolder(path=undivided, **SMALL).load(GRAY, 0)
    check_splits(splits, GRAY)
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
        ("pipe", "'{root}/train/cat/pipe.png' is not a readable file"),
        ("broken link", "'{root}/train/cat/link.png' is not a readable file"),
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


def count_decoding(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    decoded: list[str] = []
    original = reading.decode_image

    def counting(path: str, *rest: Any) -> Any:
        decoded.append(path)
        return original(path, *rest)

    monkeypatch.setattr(reading, "decode_image", counting)
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
    ImageFolder(path=undivided, **SMALL).load(GRAY, 0)
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


def test_another_folder_with_the_same_names_and_times_is_another(tmp_path: Path) -> None:
    """As archives with fixed times leave them; bitmaps of one size are equally long."""
    means = []
    for value in (10, 240):
        for label in ("a", "b"):
            folder = tmp_path / str(value) / label
            folder.mkdir(parents=True)
            for number in range(25):
                Image.new("RGB", (8, 8), (value,) * 3).save(folder / f"{number}.bmp")
                os.utime(folder / f"{number}.bmp", (1, 1))
        means.append(ImageFolder(path=tmp_path / str(value), **SMALL).load((3, 8, 8), 0).train.pixels.mean())
    assert means == [10, 240]


def test_unwritable_cache(undivided: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("MBCOMPRESS_CACHE", str(undivided / "cat/000.png"))  # a file, where a folder is needed
    with caplog.at_level(logging.WARNING):
        check_splits(ImageFolder(path=undivided, **SMALL).load(RGB, 0), RGB)
    assert "cannot cache decoded images" in caplog.text


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
