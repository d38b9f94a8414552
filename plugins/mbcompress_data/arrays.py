"""A dataset in an .npz file, as in MedMNIST."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from mbcompress import Images, MbcompressError, Splits
from mbcompress.data import check_channels, class_labels, resize_images
from mbcompress.errors import brief

from .archive import array_names, read_arrays
from .options import File, FileDataset, Mean, Std

UNDIVIDED = ("images", "labels")
DIVIDED = ("train_images", "train_labels", "test_images", "test_labels")


class Arrays(FileDataset):
    """Images and labels as arrays in an .npz file.

    Either `images` and `labels`, a fraction of which becomes the test split, or `train_images`, `train_labels`,
    `test_images` and `test_labels` as in MedMNIST. Its `val_images` are not read: the validation split is taken from
    the training images. Images are uint8, (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels (channels last
    if ambiguous); labels are integers from 0, (N,) or (N, 1).
    """

    name: ClassVar[str] = "arrays"

    path: File = Field(description="The .npz file.")
    mean: Mean = Field(default=(0.5,), description="Mean of pixels in 0..1, for normalization: one number or three.")
    std: Std = Field(default=(0.5,), description="Standard deviation for normalization: one number or three.")
    flip: bool = Field(default=False, description="Random horizontal flips of training images.")

    @field_validator("path")
    @classmethod
    def _has_known_arrays(cls, path: Path) -> Path:
        names = array_names(path)
        if not (names.issuperset(DIVIDED) or names.issuperset(UNDIVIDED)):
            raise ValueError(
                f"{str(path)!r} must have the arrays {', '.join(UNDIVIDED)} or {', '.join(DIVIDED)}; "
                f"found {brief(', '.join(sorted(names))) or 'none'}"
            )
        return path

    @classmethod
    def _own_test(cls, path: Path) -> str | None:
        return "test images" if array_names(path).issuperset(DIVIDED) else None

    def load(self, input_shape: tuple[int, int, int], seed: int) -> Splits:
        """Read, validate and resize the arrays."""
        check_channels(input_shape)
        try:
            divided = self._own_test(self.path)
        except ValueError as error:
            raise MbcompressError(f"data: {error}") from None
        arrays = read_arrays(self.path, DIVIDED if divided else UNDIVIDED)
        prefix = "train_" if divided else ""
        images = self._images(arrays, f"{prefix}images", f"{prefix}labels", input_shape)
        test = self._images(arrays, "test_images", "test_labels", input_shape) if divided else None
        if test and (unknown := np.setdiff1d(test.labels, images.labels)).size:
            raise MbcompressError(f"data: label {unknown[0]} is in 'test_labels' but not in 'train_labels'")
        classes = tuple(map(str, range(int(images.labels.max()) + 1)))
        return self._divide(images, test, input_shape[0], seed, classes)

    def _images(self, arrays: dict[str, NDArray[Any]], images: str, labels: str, shape: tuple[int, int, int]) -> Images:
        pixels, numbers = _channels_last(images, arrays[images]), class_labels(arrays[labels], f"data: {labels!r}")
        if len(pixels) != len(numbers):
            raise MbcompressError(f"data: {images!r} has {len(pixels)} images but {labels!r} has {len(numbers)} labels")
        return Images(resize_images(pixels, shape, self.resize), numbers)


def _channels_last(name: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    """(N, H, W) or (N, H, W, 3) uint8."""
    if array.dtype != np.uint8:
        raise MbcompressError(f"data: {name!r} must be uint8, from 0 to 255, got {array.dtype}")
    if 0 not in array.shape:
        if array.ndim == 3:
            return array
        if array.ndim == 4 and (array.shape[3] in (1, 3) or array.shape[1] in (1, 3)):
            last = array if array.shape[3] in (1, 3) else array.transpose(0, 2, 3, 1)
            return last[..., 0] if last.shape[3] == 1 else last
    raise MbcompressError(
        f"data: {name!r} must be (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels, got {array.shape}"
    )
