"""Labelled images in memory, and their division into train, calibration, validation and test."""

import hashlib
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mbcompress.errors import MbcompressError


@dataclass(frozen=True)
class Images:
    """Images with their labels.

    Attributes:
        pixels: (N, C, H, W) contiguous; uint8, or float32 where they came normalised already.
        labels: (N,) int64, from 0.
    """

    pixels: NDArray[np.uint8] | NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def feed(self, digest: "hashlib._Hash") -> None:
        """Add all pixels and labels to a hash."""
        digest.update(np.ascontiguousarray(self.pixels).data)
        digest.update(np.ascontiguousarray(self.labels).data)

    def take(self, indices: NDArray[np.int64]) -> "Images":
        """A copy of the images at these positions."""
        pixels: Any = np.ascontiguousarray(self.pixels[indices])  # of whichever type they are
        return Images(pixels, self.labels[indices])


@dataclass(frozen=True)
class Normalization:
    """x -> (x / scale - mean) / std for each channel: what the model expects at its input."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 255.0
    """What white is in the stored pixels: 255 for bytes."""

    @classmethod
    def identity(cls, channels: int) -> Self:
        """For pixels that came normalised already: they stay as they are."""
        return cls((0.0,) * channels, (1.0,) * channels, 1.0)

    @property
    def formula(self) -> str:
        """How a pixel becomes a number of the input, for people."""
        return "the number that came, normalised already" if self.scale == 1 else "(pixel / 255 - mean) / std"

    def apply(self, pixels: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, C, H, W) uint8 or float32 -> float32."""
        mean, std = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (self.mean, self.std))
        return (pixels.astype(np.float32) / np.float32(self.scale) - mean) / std


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training images; a dataset names those that leave its labels true."""

    crop_padding: int = 0
    """Pixels of padding before a random crop to the original size."""

    flip: bool = False
    """Mirror left and right with probability 1/2."""

    cutout: int = 0
    """Side in pixels of a square that is set to the mean (DeVries and Taylor 2017)."""

    randaugment: int = 0
    """How many operations of RandAugment each image goes through (Cubuk et al. 2020)."""

    randaugment_magnitude: int = 9
    """Strength of those operations, 0 to 30."""

    mixup: float = 0.0
    """Alpha of the Beta distribution by which images and labels are blended in pairs (Zhang et al. 2018)."""


@dataclass(frozen=True)
class Development:
    """What passes may look at: every split but test, so that no choice can depend on test data."""

    train: Images
    calibration: Images
    validation: Images
    classes: tuple[str, ...]
    normalization: Normalization
    augmentation: Augmentation


@dataclass(frozen=True)
class Splits(Development):
    """A whole dataset: what passes may look at, and the test images that only the final measurement opens.

    `notes` are sentences that whoever brought the data should read, such as what was split off from what.
    """

    test: Images
    notes: tuple[str, ...] = ()

    def development(self) -> Development:
        """Everything but the test split."""
        return Development(
            self.train, self.calibration, self.validation, self.classes, self.normalization, self.augmentation
        )

    def fingerprint(self) -> str:
        """SHA-256 over all pixels and labels, split by split."""
        digest = hashlib.sha256()
        for images in (self.train, self.calibration, self.validation, self.test):
            images.feed(digest)
        return digest.hexdigest()

    @classmethod
    def divide(
        cls,
        images: Images,
        test: Images | float,
        *,
        calibration: int,
        validation: float,
        seed: int,
        classes: tuple[str, ...],
        normalization: Normalization,
        augmentation: Augmentation,
    ) -> Self:
        """Divide `images` so that each split has the classes in proportion, deterministically by `seed`.

        Args:
            test: the test images, or the share of `images` to set aside for them.
            calibration: number of images to observe activation ranges on.
            validation: share of what is left after test.

        Raises:
            MbcompressError: a split would be empty.
        """
        order = stratified_order(images.labels, seed)
        if isinstance(test, float):
            held_out = round(test * len(order))
            test, order = images.take(order[:held_out]), order[held_out:]
        checked = round(validation * len(order))
        sizes = {
            "test": len(test),
            "validation": checked,
            "calibration": calibration,
            "train": len(order) - checked - calibration,
        }
        if min(sizes.values()) < 1:
            division = ", ".join(f"{name} {max(size, 0)}" for name, size in sizes.items())
            raise MbcompressError(
                f"data: {len(images)} images are too few to be divided ({division}); "
                "lower 'calibration' or 'validation', or bring more images"
            )
        parts = np.split(order, [checked, checked + calibration])
        return cls(
            validation=images.take(parts[0]),
            calibration=images.take(parts[1]),
            train=images.take(parts[2]),
            test=test,
            classes=classes,
            normalization=normalization,
            augmentation=augmentation,
        )


def stratified_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A random order of positions in which every stretch holds the classes in proportion.

    Each class's images get evenly spaced places in [0, 1) with a random offset; sorting by place interleaves them.
    """
    generator = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[generator.permutation(members)] = (np.arange(len(members)) + generator.random()) / len(members)
    return np.argsort(place, kind="stable")
