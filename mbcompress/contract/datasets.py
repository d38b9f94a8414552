"""Dataset: labeled images, divided into four splits."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from pydantic import Field

from mbcompress.contract.options import Component

if TYPE_CHECKING:
    from mbcompress.data.splits import Splits


class Dataset(Component):
    """Labeled images, divided into four disjoint splits."""

    calibration: int = Field(
        default=128, ge=1, description="Number of training images held out to calibrate quantization."
    )
    validation: float = Field(
        default=0.1, gt=0, lt=1, description="Fraction of the training images held out for validation."
    )
    split_seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        description="Seed of the split. It is independent of the recipe's seed, so that "
        "a model trained in one run is never tested on its training images in another, if the images are the same.",
    )

    @abstractmethod
    def load(self, input_shape: tuple[int, int, int], seed: int) -> Splits:
        """Load the images at the model's input size and split them.

        Args:
            input_shape: channels, height, width.
            seed: seed of the split, the option `split_seed`.

        Raises:
            MbcompressError: the data is missing, unreadable or too small to split.
        """
