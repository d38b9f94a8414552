"""Labeled images in memory, and how they are split into train, calibration, validation and test."""

import hashlib
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mbcompress.errors import MbcompressError

SPLITS = ("train", "calibration", "validation", "test")
"""Names of the splits."""


@dataclass(frozen=True)
class Images:
    """Images with their labels.

    Attributes:
        pixels: (N, C, H, W) contiguous; uint8, or float32 if the images are already normalized.
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
        """Return a copy of the images at these indices."""
        pixels: Any = np.ascontiguousarray(self.pixels[indices])  # uint8 or float32, as before
        return Images(pixels, self.labels[indices])


@dataclass(frozen=True)
class Normalization:
    """x -> (x / scale - mean) / std for each channel: what the model expects at its input."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 255.0
    """The pixel value of white: 255 for uint8."""

    @classmethod
    def identity(cls, channels: int) -> Self:
        """For images that are already normalized: leaves them as they are."""
        return cls((0.0,) * channels, (1.0,) * channels, 1.0)

    @property
    def formula(self) -> str:
        """How a pixel becomes an input of the model, for the report."""
        return "the pixel as it is, already normalized" if self.scale == 1 else "(pixel / 255 - mean) / std"

    def apply(self, pixels: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, C, H, W) uint8 or float32 -> float32."""
        mean, std = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (self.mean, self.std))
        return (pixels.astype(np.float32) / np.float32(self.scale) - mean) / std


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training images; a dataset names those that keep its labels correct."""

    crop_padding: int = 0
    """Pixels of zero padding before a random crop to the original size."""

    flip: bool = False
    """Mirror left and right with probability 1/2."""

    cutout: int = 0
    """Side in pixels of a square that is set to the mean (DeVries and Taylor 2017)."""

    randaugment: int = 0
    """Number of RandAugment transforms applied to each image (Cubuk et al. 2020)."""

    randaugment_magnitude: int = 9
    """Strength of the RandAugment transforms, 0 to 30."""

    mixup: float = 0.0
    """Alpha of the Beta distribution by which pairs of images and labels are blended (Zhang et al. 2018)."""


@dataclass(frozen=True)
class Development:
    """The splits that passes see: all but test, so that no choice can depend on test images."""

    train: Images
    calibration: Images
    validation: Images
    classes: tuple[str, ...]
    normalization: Normalization
    augmentation: Augmentation


@dataclass(frozen=True)
class Splits(Development):
    """A whole dataset: the splits that passes see, and the test images that only the final measurement reads.

    `notes` are sentences to show to the user, such as how many images were split off.
    """

    test: Images
    notes: tuple[str, ...] = ()

    def development(self) -> Development:
        """Return everything but the test split."""
        return Development(**{field.name: getattr(self, field.name) for field in fields(Development)})

    def fingerprint(self) -> str:
        """SHA-256 over all pixels and labels, split by split."""
        digest = hashlib.sha256()
        for images in (self.train, self.calibration, self.validation, self.test):
            images.feed(digest)
        return digest.hexdigest()

    @classmethod
    def divide(
        cls,
        train: Images,
        test: Images | float,
        *,
        calibration: Images | int,
        validation: Images | float,
        seed: int,
        classes: tuple[str, ...],
        normalization: Normalization,
        augmentation: Augmentation,
    ) -> Self:
        """Split off from `train` what is not given as images, with the classes in proportion, deterministic in `seed`.

        Args:
            train: the images to split.
            test: the test images, or the fraction of `train` to set aside for them.
            calibration: the images to observe activation ranges on, or their number.
            validation: the validation images, or the fraction to set aside of what remains after test.

        Raises:
            MbcompressError: a split would be empty.
        """
        splits: dict[str, Any] = {"test": test, "validation": validation, "calibration": calibration}
        taken: dict[str, int] = {}  # from `train`, in this order
        if not isinstance(test, Images):
            taken["test"] = round(test * len(train))
        if not isinstance(validation, Images):
            taken["validation"] = round(validation * (len(train) - taken.get("test", 0)))
        if not isinstance(calibration, Images):
            taken["calibration"] = calibration
        left = len(train) - sum(taken.values())
        sizes = {name: taken[name] if name in taken else len(split) for name, split in splits.items()} | {"train": left}
        if min(sizes.values()) < 1:
            division = ", ".join(f"{name} {max(size, 0)}" for name, size in sizes.items())
            raise MbcompressError(
                f"data: {len(train)} images are too few to be divided ({division}); "
                "lower 'calibration' or 'validation', or bring more images"
            )
        if taken:
            order = stratified_order(train.labels, seed)
            *pieces, rest = np.split(order, np.cumsum(list(taken.values())))
            splits |= {name: train.take(piece) for name, piece in zip(taken, pieces, strict=True)}
            train = train.take(rest)
        return cls(train=train, **splits, classes=classes, normalization=normalization, augmentation=augmentation)


def stratified_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return a random order of indices in which every stretch holds the classes in proportion.

    The images of a class get evenly spaced places in [0, 1) with a random offset; sorting by place interleaves them.
    """
    generator = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[generator.permutation(members)] = (np.arange(len(members)) + generator.random()) / len(members)
    return np.argsort(place, kind="stable")
