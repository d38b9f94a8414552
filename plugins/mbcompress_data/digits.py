"""The UCI handwritten digits (8x8), bundled so that any pass can be tried without a download.

E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, licensed under CC BY 4.0. The 1,797 images are the test set of the original, as
distributed by scikit-learn, in another file format.
"""

from importlib.resources import files
from typing import ClassVar

import numpy as np
from pydantic import Field

from mbcompress import Augmentation, Dataset, Images, Splits
from mbcompress.data import check_channels, resize_images

from .options import TEST_FRACTION, normalization

BRIGHTEST = 16
MEAN, STD = (0.305,), (0.376,)  # of the 1,797 images, with pixels in 0..1


class Digits(Dataset):
    """1,797 handwritten digits of 8x8 pixels, bundled with mbcompress.

    Source: UCI Machine Learning Repository (E. Alpaydin and C. Kaynak, 1998), https://doi.org/10.24432/C50P49,
    license CC BY 4.0. The 17 gray levels are scaled to 0..255, resized bilinearly to the model's input size, and
    repeated for each channel. Augmentation: random crops with 2 pixels of padding, no flips.
    """

    name: ClassVar[str] = "digits"

    test: float = Field(
        default=TEST_FRACTION, gt=0, lt=1, description="Fraction of the images to set aside for the test split."
    )

    def load(self, input_shape: tuple[int, int, int], seed: int) -> Splits:
        """Read and resize the digits."""
        check_channels(input_shape)
        return Splits.divide(
            _read(input_shape),
            self.test,
            calibration=self.calibration,
            validation=self.validation,
            seed=seed,
            classes=tuple("0123456789"),
            normalization=normalization(MEAN, STD, input_shape[0]),
            augmentation=Augmentation(crop_padding=2),
        )


def _read(shape: tuple[int, int, int]) -> Images:
    with (
        files(__package__).joinpath("digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as archive,
    ):
        shades, labels = archive["images"], archive["labels"]  # (1797, 8, 8) uint8 0..16, (1797,) uint8
    pixels = np.rint(shades * (255 / BRIGHTEST)).astype(np.uint8)
    return Images(resize_images(pixels, shape), labels.astype(np.int64))
