"""CIFAR-10 in its binary form and as folders."""

from pathlib import Path

import numpy as np
import platformdirs
import pytest
from mbcompress_data import cifar10, cifar_binary
from mbcompress_data.cifar10 import CLASSES, Cifar10
from pictures import RGB, SMALL, SPLITS, check_splits, failure, rejection, write_classes
from pictures import cache_folder as cache_folder

BATCH = 20


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
        assert [len(getattr(splits, name)) for name in SPLITS] == [85, 10, 5, 20]
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
    assert [len(getattr(splits, name)) for name in SPLITS] == [47372, 128, 2500, 10000]
    assert np.bincount(splits.test.labels).tolist() == [1000] * 10
    values = splits.normalization.apply(splits.train.pixels[:5000])
    assert np.abs(values.mean((0, 2, 3))).max() < 0.03
    assert np.abs(values.std((0, 2, 3)) - 1).max() < 0.03
