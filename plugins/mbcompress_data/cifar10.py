"""CIFAR-10: 60,000 color images of 32x32 pixels in ten classes.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from pathlib import Path
from typing import ClassVar

import platformdirs
from pydantic import Field, field_validator

from mbcompress import Augmentation, Dataset, Images, MbcompressError, Splits
from mbcompress.data import check_channels

from . import cifar_binary
from .folders import check_same_classes, list_classes
from .options import Folder, normalization
from .reading import read

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN = (0.4914, 0.4822, 0.4465)  # of the 50,000 training images
STD = (0.2470, 0.2435, 0.2616)


def default_path() -> Path:
    """`~/.cache/mbcompress/cifar10` on Linux."""
    return Path(platformdirs.user_cache_dir("mbcompress")) / "cifar10"


class Cifar10(Dataset):
    """CIFAR-10, from the official binary files or from image folders.

    `path` has either the unpacked files of `cifar-10-binary.tar.gz` (`data_batch_1.bin` to `data_batch_5.bin` and
    `test_batch.bin`, optionally in `cifar-10-batches-bin`), or `train/<class>/<file>` and `test/<class>/<file>` with
    the ten English class names. Nothing is downloaded. The Python version is rejected, because unpickling can execute
    code. The test split is the official one.
    """

    name: ClassVar[str] = "cifar10"

    path: Folder | None = Field(
        default=None,
        description="Folder with the dataset; null is 'cifar10' in the user's cache folder for mbcompress, which is "
        "~/.cache/mbcompress on Linux.",
    )

    validation: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="Fraction of the training images for the validation split; the bundled weights used 0.05.",
    )

    @field_validator("path")
    @classmethod
    def _holds_cifar10(cls, path: Path | None) -> Path | None:
        if path is not None:
            cifar_binary.locate(path)
        return path

    def load(self, input_shape: tuple[int, int, int], seed: int) -> Splits:
        """Read the images; the calibration and validation splits are taken from the training images."""
        check_channels(input_shape)
        train, test = self._read(input_shape)
        return Splits.divide(
            train,
            test,
            calibration=self.calibration,
            validation=self.validation,
            seed=seed,
            classes=CLASSES,
            normalization=normalization(MEAN, STD, input_shape[0]),
            augmentation=Augmentation(crop_padding=4, flip=True),
        )

    def _read(self, shape: tuple[int, int, int]) -> tuple[Images, Images]:
        folder = self.path or default_path()
        try:
            binary = cifar_binary.locate(folder)  # the validator does not check the default folder
        except ValueError as error:
            raise MbcompressError(f"data: {error}") from None
        if binary:
            return cifar_binary.read(binary, shape)
        listings = train, test = [list_classes(folder / part) for part in ("train", "test")]
        check_same_classes(train, test)
        if train.classes != CLASSES:
            raise MbcompressError(f"data: the class folders in {str(train.root)!r} must be {', '.join(CLASSES)}")
        train_images, test_images = read(listings, shape, "crop")
        return train_images, test_images
