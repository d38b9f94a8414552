"""The official binary files of CIFAR-10: records of one label byte and 3 x 32 x 32 pixel bytes."""

from pathlib import Path

import numpy as np

from mbcompress import Images, MbcompressError
from mbcompress.data import resize_images

from .folders import has_own_test

TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
RECORDS, RECORD_BYTES = 10_000, 1 + 3 * 32 * 32

ARCHIVE = "cifar-10-binary.tar.gz"
WANTED = f"unpack {ARCHIVE} of https://www.cs.toronto.edu/~kriz/cifar.html there"


def locate(path: Path) -> Path | None:
    """Return the folder with the binary files, or None if `path` has image folders instead.

    Raises:
        ValueError: `path` has no usable copy of CIFAR-10; the message says what is needed.
    """
    for folder in (path, path / "cifar-10-batches-bin"):
        lacking = {*TRAIN, TEST} - _names(folder)
        if not lacking:
            return folder
        if len(lacking) <= len(TRAIN):
            raise ValueError(f"{min(lacking)!r} is missing in {str(folder)!r}; {WANTED} again")
    if has_own_test(path):
        return None
    if _names(path) & {"data_batch_1", "cifar-10-batches-py"}:
        raise ValueError(
            f"{str(path)!r} has the Python version of CIFAR-10, and unpickling can execute code; "
            f"the binary version is needed: {WANTED}"
        )
    if ARCHIVE in _names(path):
        raise ValueError(f"{ARCHIVE!r} in {str(path)!r} is still packed; unpack it there")
    raise ValueError(
        f"no CIFAR-10 in {str(path)!r}; {WANTED}, or put train/<class>/ and test/<class>/ with images there"
    )


def _names(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in folder.iterdir()}
    except OSError:
        return set()


def read(folder: Path, shape: tuple[int, int, int]) -> tuple[Images, Images]:
    """Return training and test images, (N, C, H, W) of `shape`."""
    return _read_files([folder / name for name in TRAIN], shape), _read_files([folder / TEST], shape)


def _read_files(paths: list[Path], shape: tuple[int, int, int]) -> Images:
    records = np.concatenate([_records(path) for path in paths])  # (N, 3073)
    pixels = records[:, 1:].reshape(-1, 3, 32, 32)
    return Images(resize_images(pixels.transpose(0, 2, 3, 1), shape), records[:, 0].astype(np.int64))


def _records(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    try:
        size = path.stat().st_size
        content = np.fromfile(path, np.uint8) if size == RECORDS * RECORD_BYTES else None
    except OSError as error:
        raise MbcompressError(f"data: cannot read {str(path)!r}: {error.strerror}") from None
    if content is None or len(content) != size:
        wanted = RECORDS * RECORD_BYTES
        raise MbcompressError(f"data: {str(path)!r} must have {wanted:,} bytes, has {size:,}; {WANTED} again")
    records = content.reshape(RECORDS, RECORD_BYTES)
    if records[:, 0].max() > 9:
        raise MbcompressError(f"data: {str(path)!r} is damaged: its labels are not all below 10; {WANTED} again")
    return records
