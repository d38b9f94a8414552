"""Datasets in .npz archives."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mbcompress_data import arrays
from mbcompress_data.arrays import Arrays
from pictures import GRAY, RGB, SMALL, SPLITS, check_splits, failure, rejection
from pictures import cache_folder as cache_folder
from pydantic import ValidationError


def write_arrays(path: Path, **changes: Any) -> Path:
    """60 gray images of 3 classes, divided as in MedMNIST; None leaves an array out."""
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
@pytest.mark.parametrize("shape", [RGB, GRAY])
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
        ({"train_labels": LABELS - 1}, "'train_labels': labels must be from 0 and below 100000, got -1"),
        (
            {"train_labels": LABELS * 10**9},
            "'train_labels': labels must be from 0 and below 100000, got 2000000000",
        ),
        (
            {"train_labels": np.zeros((60, 14), int)},
            "'train_labels': labels must be one class index per image, got shape (60, 14)",
        ),
        ({"train_labels": LABELS[:0]}, "'train_images' has 60 images but 'train_labels' has 0 labels"),
        ({"train_images": IMAGES[:0]}, "'train_images' must be (N, H, W)"),
        ({"train_images": np.zeros((60, 16, 16, 4), np.uint8)}, "1 or 3 channels, got (60, 16, 16, 4)"),
        ({"train_images": np.zeros((60, 256), np.uint8)}, "1 or 3 channels, got (60, 256)"),
        ({"test_labels": np.full(12, 7)}, "label 7 is in 'test_labels' but not in 'train_labels'"),
        ({"train_images": IMAGES[:3], "train_labels": LABELS[:3]}, "3 images are too few to split"),
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
    monkeypatch.setattr(arrays, "resize_images", None)
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
