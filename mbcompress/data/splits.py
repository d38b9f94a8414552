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
        """Update a hash with all pixels and labels."""
        digest.update(np.ascontiguousarray(self.pixels).data)
        digest.update(np.ascontiguousarray(self.labels).data)

    def take(self, indices: NDArray[np.int64]) -> "Images":
        """Return a copy of the images at these indices."""
        pixels: Any = np.ascontiguousarray(self.pixels[indices])  # uint8 or float32
        return Images(pixels, self.labels[indices])


@dataclass(frozen=True)
class Normalization:
    """x -> (x / scale - mean) / std per channel, the preprocessing that the model expects."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 255.0
    """The pixel value of white: 255 for uint8."""

    @classmethod
    def identity(cls, channels: int) -> Self:
        """Return the identity, for images that are already normalized."""
        return cls((0.0,) * channels, (1.0,) * channels, 1.0)

    @property
    def formula(self) -> str:
        """The formula, for the report."""
        return "the pixel as it is, already normalized" if self.scale == 1 else "(pixel / 255 - mean) / std"

    def apply(self, pixels: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalize (N, C, H, W) uint8 or float32 to float32."""
        mean, std = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (self.mean, self.std))
        return (pixels.astype(np.float32) / np.float32(self.scale) - mean) / std


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images; a dataset's default must preserve its labels."""

    crop_padding: int = 0
    """Zero padding in pixels before a random crop to the original size."""

    flip: bool = False
    """Whether to flip images horizontally with probability 1/2."""

    cutout: int = 0
    """Side length in pixels of a square that is set to the mean (DeVries and Taylor 2017); 0 disables it."""

    randaugment: int = 0
    """Number of RandAugment operations per image (Cubuk et al. 2020)."""

    randaugment_magnitude: int = 9
    """Magnitude of the RandAugment operations, 0 to 30."""

    mixup: float = 0.0
    """Alpha of the Beta distribution of mixup coefficients (Zhang et al. 2018); 0 disables mixup."""


@dataclass(frozen=True)
class Development:
    """All splits except test, so that passes cannot depend on test images."""

    train: Images
    calibration: Images
    validation: Images
    classes: tuple[str, ...]
    normalization: Normalization
    augmentation: Augmentation


@dataclass(frozen=True)
class Splits(Development):
    """All splits of a dataset; only the final measurement uses the test split.

    `notes` are messages for the user, such as how many images were split off.
    """

    test: Images
    notes: tuple[str, ...] = ()

    def development(self) -> Development:
        """Return everything but the test split."""
        return Development(**{field.name: getattr(self, field.name) for field in fields(Development)})

    def fingerprint(self) -> str:
        """Return the SHA-256 of all pixels and labels."""
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
        """Split off from `train` what is not given as images; stratified by class and deterministic for a `seed`.

        Args:
            train: the images to split.
            test: the test images, or their fraction of `train`.
            calibration: the calibration images, or their number.
            validation: the validation images, or their fraction of what remains after test.

        Raises:
            MbcompressError: a split would be empty.
        """
        splits: dict[str, Any] = {"test": test, "validation": validation, "calibration": calibration}
        taken: dict[str, int] = {}  # sizes split off from `train`, in this order
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
                f"data: {len(train)} images are too few to split ({division}); "
                "lower 'calibration' or 'validation', or use more images"
            )
        if taken:
            order = stratified_order(train.labels, seed)
            *pieces, rest = np.split(order, np.cumsum(list(taken.values())))
            splits |= {name: train.take(piece) for name, piece in zip(taken, pieces, strict=True)}
            train = train.take(rest)
        return cls(train=train, **splits, classes=classes, normalization=normalization, augmentation=augmentation)


def stratified_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return a random order of indices in which every contiguous part is stratified by class.

    The images of a class get evenly spaced positions in [0, 1) with a random offset; sorting by position interleaves
    the classes.
    """
    generator = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[generator.permutation(members)] = (np.arange(len(members)) + generator.random()) / len(members)
    return np.argsort(place, kind="stable")
