"""A dataset that is a file of arrays, as MedMNIST distributes its images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator

from mbcompress import Augmentation, Dataset, Images, MbcompressError, Splits
from mbcompress.errors import brief

from .archive import array_names, read_arrays
from .options import TEST_SHARE, File, Mean, Std, normalization
from .resizing import Resize, check_shape, fit

UNDIVIDED = ("images", "labels")
DIVIDED = ("train_images", "train_labels", "test_images", "test_labels")
MAX_CLASSES = 100_000


class Arrays(Dataset):
    """Images and labels as arrays in an .npz file.

    Either `images` and `labels`, from which a share is set aside for the test split, or `train_images`,
    `train_labels`, `test_images` and `test_labels` as in MedMNIST, whose `val_images` are not read: validation images
    come out of the training images. Images are uint8, (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels
    (where both fit, the last axis is the channels); labels are integers from 0, (N,) or (N, 1).
    """

    name: ClassVar[str] = "arrays"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ()  # the file is the user's

    path: File = Field(description="The .npz file.")
    test: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description=f"Share of the images set aside for the test split, {TEST_SHARE} if not given; refused where the "
        "file has 'test_images' already.",
    )
    resize: Resize = Field(
        default="crop",
        description="How images reach the model's input size: 'crop' fits the shorter side and keeps the middle, "
        "'stretch' fits both sides, 'pad' fits the longer side and adds black borders.",
    )
    mean: Mean = Field(default=(0.5,), description="Subtracted from each channel, white being 1: one number or three.")
    std: Std = Field(default=(0.5,), description="What each channel is divided by after that: one number or three.")
    crop_padding: int = Field(
        default=4, ge=0, le=1024, description="Pixels of border that training images are randomly cropped from."
    )
    flip: bool = Field(default=False, description="Mirror training images left and right at random.")

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

    @field_validator("test")
    @classmethod
    def _only_where_undivided(cls, test: float | None, info: ValidationInfo) -> float | None:
        path = info.data.get("path")
        if test is not None and path and _is_divided(path):
            raise ValueError(f"{str(path)!r} has test images of its own; remove this option")
        return test

    def load(self, input_shape: tuple[int, int, int], seed: int) -> Splits:
        """Read, check and resize the arrays."""
        check_shape(input_shape)
        if _is_divided(self.path):
            arrays = read_arrays(self.path, DIVIDED)
            images = self._images(arrays, "train_images", "train_labels", input_shape)
            test: Images | float = self._images(arrays, "test_images", "test_labels", input_shape)
        else:
            images = self._images(read_arrays(self.path, UNDIVIDED), *UNDIVIDED, input_shape)
            test = self.test or TEST_SHARE
        return Splits.divide(
            images,
            test,
            calibration=self.calibration,
            validation=self.validation,
            seed=seed,
            classes=_classes(images, test),
            normalization=normalization(self.mean, self.std, input_shape[0]),
            augmentation=Augmentation(crop_padding=self.crop_padding, flip=self.flip),
        )

    def _images(self, arrays: dict[str, NDArray[Any]], images: str, labels: str, shape: tuple[int, int, int]) -> Images:
        pixels, numbers = _pixels(images, arrays[images]), _labels(labels, arrays[labels])
        if len(pixels) != len(numbers):
            raise MbcompressError(f"data: {images!r} has {len(pixels)} images but {labels!r} has {len(numbers)} labels")
        return Images(fit(pixels, shape, self.resize), numbers)


def _is_divided(path: Path) -> bool:
    try:
        return array_names(path).issuperset(DIVIDED)
    except ValueError as error:
        raise MbcompressError(f"data: {error}") from None


def _pixels(name: str, array: NDArray[Any]) -> NDArray[np.uint8]:
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


def _labels(name: str, array: NDArray[Any]) -> NDArray[np.int64]:
    """(N,) int64, from 0."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not len(array):
        raise MbcompressError(f"data: {name!r} must be one label for each image, (N,) or (N, 1), got {array.shape}")
    if array.min() < 0 or array.max() >= MAX_CLASSES:
        raise MbcompressError(
            f"data: {name!r} must be class numbers from 0 and below {MAX_CLASSES}, "
            f"got {array.min() if array.min() < 0 else array.max()}"
        )
    return array.astype(np.int64)


def _classes(images: Images, test: Images | float) -> tuple[str, ...]:
    """The numbers up to the highest label, as names."""
    if isinstance(test, Images) and (unknown := np.setdiff1d(test.labels, images.labels)).size:
        raise MbcompressError(f"data: label {unknown[0]} is in 'test_labels' but not in 'train_labels'")
    return tuple(map(str, range(int(images.labels.max()) + 1)))
