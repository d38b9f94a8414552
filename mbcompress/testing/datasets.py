"""Checks of datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mbcompress.data.splits import Splits
from mbcompress.errors import MbcompressError, shown
from mbcompress.testing.result import CheckResult, Skipped, run_checks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mbcompress.contract.datasets import Dataset
    from mbcompress.data.splits import Images
    from mbcompress.testing.options import Subject

SHAPE = (3, 32, 32)
PARTS = ("train", "calibration", "validation", "test")


def check_dataset(subject: Subject) -> Iterator[CheckResult]:
    """The splits have the right form, and the same seed gives the same splits."""
    for dataset in subject.instances():
        checks = {
            "loads": lambda dataset=dataset: _check_loads(dataset),
            "deterministic": lambda dataset=dataset: _check_deterministic(dataset),
        }
        yield from run_checks(subject.label, checks)


def _load(dataset: Dataset) -> Splits:
    try:
        return dataset.load(SHAPE, 0)
    except MbcompressError as error:
        raise Skipped(f"its data is not available: {error}") from None


def _check_loads(dataset: Dataset) -> Iterator[str]:
    splits = _load(dataset)
    if not isinstance(splits, Splits):
        yield f"load() must return mbcompress.Splits, got {shown(splits)}"
        return
    for name in PARTS:
        yield from _check_images(name, getattr(splits, name), len(splits.classes))
    if len(splits.calibration) != dataset.calibration:
        yield f"has {len(splits.calibration)} calibration images, expected {dataset.calibration}"
    for name in ("mean", "std"):
        values = getattr(splits.normalization, name)
        if len(values) not in (1, SHAPE[0]):
            yield f"normalization.{name} must have one number per channel, {SHAPE[0]} in all, got {shown(values)}"


def _check_images(name: str, images: Images, classes: int) -> Iterator[str]:
    pixels, labels = images.pixels, images.labels
    if pixels.dtype not in (np.uint8, np.float32) or pixels.shape[1:] != SHAPE or not pixels.flags.c_contiguous:
        yield (
            f"{name}: pixels must be contiguous uint8 or float32 (N, {', '.join(map(str, SHAPE))}) "
            f"for load({SHAPE}, seed), got {pixels.dtype} {pixels.shape}"
        )
    if labels.dtype != np.int64 or labels.shape != (len(pixels),) or not len(labels):
        yield f"{name}: labels must be int64, one per image, got {labels.dtype} {labels.shape}"
    elif labels.min() < 0 or labels.max() >= classes:
        yield f"{name}: labels must be from 0 to {classes - 1} for {classes} classes, got up to {labels.max()}"


def _check_deterministic(dataset: Dataset) -> Iterator[str]:
    if _load(dataset).fingerprint() != _load(dataset).fingerprint():
        yield "returns different images with the same seed; the splits must depend on the seed only"
