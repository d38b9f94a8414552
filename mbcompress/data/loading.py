"""Create splits from loaders, Datasets and arrays; missing splits are split off from 'train'."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, ValidationError

from mbcompress.contract.options import Options
from mbcompress.contract.validation import first_problem
from mbcompress.data.arrays import kind
from mbcompress.data.reading import class_names, read_images
from mbcompress.data.splits import SPLITS, Augmentation, Images, Normalization, Splits
from mbcompress.errors import MbcompressError, brief

if TYPE_CHECKING:
    from mbcompress.data.images import Shape


class LoadingOptions(Options):
    """How to create splits from loaders, Datasets and arrays."""

    calibration: int = Field(
        default=128,
        ge=1,
        description="Number of training images to split off for calibration, if no calibration images are given.",
    )
    validation: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Fraction of the training images to split off, if no validation images are given.",
    )
    test: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Fraction of the training images to split off, if no test images are given.",
    )
    split_seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of the split.")
    mean: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = Field(
        default=None,
        min_length=1,
        description="Mean of uint8 images scaled to 0..1: one number or one per channel; null "
        "for 0.5. Floating-point images must already be normalized.",
    )
    std: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(
        default=None, min_length=1, description="Standard deviation, like `mean`; null for 0.5."
    )
    crop_padding: int = Field(
        default=0, ge=0, le=1024, description="Zero padding in pixels for random crops of training images."
    )
    flip: bool = Field(default=False, description="Apply random horizontal flips to training images.")
    memory_gib: float = Field(default=8.0, gt=0, description="Maximum memory for the images of one split, in GiB.")


def as_sources(data: Mapping[str, Any] | Iterable[Any]) -> dict[str, Any] | None:
    """Return the argument for `load_sources`; None if `data` is like a recipe's `data`, which names a dataset."""
    if not isinstance(data, Mapping):
        return {"train": data}
    return dict(data) if "name" not in data and any(name in data for name in SPLITS) else None


def load_sources(data: Mapping[str, Any], shape: Shape | None) -> Splits:
    """Load splits from a mapping of sources by split and `LoadingOptions`.

    Raises:
        MbcompressError: as for `load_splits`, or an option is invalid.
    """
    sources = {
        name: source
        for name, source in data.items()
        if name in SPLITS and (name == "train" or not isinstance(source, int | float))  # 'test: 0.3' is an option
    }
    try:
        options = LoadingOptions.model_validate({key: value for key, value in data.items() if key not in sources})
    except ValidationError as error:
        raise first_problem(error, LoadingOptions).under("data") from None
    return load_splits(sources, options, shape, options.split_seed)


def load_splits(sources: Mapping[str, object], options: LoadingOptions, shape: Shape | None, seed: int) -> Splits:
    """Read each source once and split missing splits off from 'train'.

    Args:
        sources: 'train', and any of 'calibration', 'validation' and 'test': each an iterable of (images, labels), a
            torch Dataset or DataLoader, a Hugging Face image dataset, or a pair of arrays.
        shape: (C, H, W) of the model's input, if known.
        seed: seed of the split, and of the global random number generators that loaders may use.

    Raises:
        MbcompressError: a source cannot be read, or images of the splits differ in shape or dtype.
    """
    from mbcompress.data.seed import fork_rng, seed_everything

    if "train" not in sources:
        raise MbcompressError(f"data: 'train' is missing (given: {', '.join(map(str, sources)) or 'nothing'})")
    splits: dict[str, Images] = {}
    with fork_rng(()):
        for name in (name for name in SPLITS if name in sources):
            seed_everything(seed)
            splits[name] = read_images(sources[name], name, shape, options.memory_gib)
    train = splits.pop("train")
    _check_alike(train, splits)
    largest = max(int(images.labels.max()) for images in (train, *splits.values()))
    names = _class_names(sources) or ()
    divided = Splits.divide(
        train,
        splits.get("test", options.test),
        validation=splits.get("validation", options.validation),
        calibration=splits.get("calibration", options.calibration),
        seed=seed,
        classes=names if len(names) > largest else tuple(map(str, range(largest + 1))),
        normalization=_normalization(train, options),
        augmentation=Augmentation(options.crop_padding, options.flip),
    )
    missing = {
        name: len(getattr(divided, name)) for name in ("test", "validation", "calibration") if name not in splits
    }
    if not missing:
        return divided
    sizes = ", ".join(f"{name} {size}" for name, size in missing.items())
    note = f"data: split off from the {len(train)} images in 'train': {sizes}; {len(divided.train)} remain to train on"
    return replace(divided, notes=(note,))


def _class_names(sources: Mapping[str, object]) -> tuple[str, ...] | None:
    """Return the class names of the sources, which must be equal, because labels are indices into them."""
    known = [(split, names) for split, source in sources.items() if (names := class_names(source))]
    for split, names in known[1:]:
        first, expected = known[0]
        if names != expected:
            raise MbcompressError(
                f"data: {split!r} has the classes {brief(', '.join(names))}, but {first!r} has "
                f"{brief(', '.join(expected))}; labels must mean the same in all splits"
            )
    return known[0][1] if known else None


def _check_alike(train: Images, splits: Mapping[str, Images]) -> None:
    for name, images in splits.items():
        if kind(images.pixels) != kind(train.pixels):
            raise MbcompressError(
                f"data: {name!r} has images of {kind(images.pixels)}, but 'train' of {kind(train.pixels)}"
            )


def _normalization(train: Images, options: LoadingOptions) -> Normalization:
    channels = train.pixels.shape[1]
    if train.pixels.dtype == np.float32:
        if options.mean is not None or options.std is not None:
            raise MbcompressError(
                "data: images are floating-point, so they must already be normalized; remove 'mean' and 'std', or "
                "use uint8"
            )
        return Normalization.identity(channels)
    values = {"mean": options.mean or (0.5,), "std": options.std or (0.5,)}
    for name, numbers in values.items():
        if len(numbers) not in (1, channels):
            raise MbcompressError(
                f"data: {name!r} must be one number or {channels}, one per channel, got {len(numbers)}"
            )
    mean, std = (numbers * (channels if len(numbers) == 1 else 1) for numbers in values.values())
    return Normalization(mean, std)
