"""From what strangers hold in their hands to splits: iterables of (images, labels), Datasets, DataLoaders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field, ValidationError

from mbcompress.contract.options import Options
from mbcompress.contract.validation import first_problem
from mbcompress.data.samples import Shape, class_names, read_images
from mbcompress.data.splits import Augmentation, Images, Normalization, Splits, stratified_order
from mbcompress.errors import MbcompressError, brief

NAMES = ("train", "calibration", "validation", "test")


class Loading(Options):
    """How images that come from a program become splits."""

    calibration: int = Field(
        default=128, ge=1, description="Images to split off for observing activation ranges, where none were given."
    )
    validation: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the training images to split off, where none were given."
    )
    test: float = Field(
        default=0.2, gt=0, lt=1, description="Share of the training images to split off, where none were given."
    )
    split_seed: int = Field(default=0, ge=0, lt=2**32, description="Which image is in which split.")
    mean: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = Field(
        default=None,
        min_length=1,
        description="Subtracted from each channel of uint8 images, white being 1: one number or one a channel; null is "
        "0.5. Floating-point images are taken as normalised already.",
    )
    std: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(
        default=None, min_length=1, description="What each channel is divided by after that; null is 0.5."
    )
    crop_padding: int = Field(
        default=0, ge=0, le=1024, description="Pixels of border that training images are randomly cropped from."
    )
    flip: bool = Field(default=False, description="Mirror training images left and right at random.")
    memory_gib: float = Field(default=8.0, gt=0, description="Most that the images of one split may take in memory.")


def parts_of(data: Mapping[str, Any] | Iterable[Any]) -> dict[str, Any] | None:
    """What `load_parts` takes, or None where `data` is like a recipe's own key, with the name of a dataset."""
    if not isinstance(data, Mapping):
        return {"train": data}
    return dict(data) if "name" not in data and any(name in data for name in NAMES) else None


def load_parts(given: Mapping[str, Any], shape: Shape | None) -> Splits:
    """Splits from a mapping that holds parts by name, and options of `Loading` beside them.

    Raises:
        MbcompressError: as `load_splits`, or an option is wrong.
    """
    parts = {
        name: part
        for name, part in given.items()
        if name in NAMES and (name == "train" or not isinstance(part, int | float))  # 'test: 0.3' is an option
    }
    try:
        options = Loading.model_validate({name: value for name, value in given.items() if name not in parts})
    except ValidationError as error:
        raise first_problem(error, Loading).under("data") from None
    return load_splits(parts, options, shape, options.split_seed)


def load_splits(parts: Mapping[str, object], options: Loading, shape: Shape | None, seed: int) -> Splits:
    """Read each part once, and split off from `train` what is missing.

    Args:
        parts: 'train', and any of 'calibration', 'validation' and 'test': each an iterable of (images, labels), a torch
            Dataset or DataLoader, a Hugging Face image dataset, or a pair of arrays.
        shape: (C, H, W) that the model takes, if it is known.
        seed: for the division, and for loaders that draw from a generator that everybody shares.

    Raises:
        MbcompressError: a part cannot be read, or they do not go together.
    """
    from mbcompress.data.seed import fork_rng, seed_everything

    if "train" not in parts:
        raise MbcompressError(f"data: 'train' is missing (given: {', '.join(map(str, parts)) or 'nothing'})")
    read: dict[str, Images] = {}
    with fork_rng(()):
        for name in (name for name in NAMES if name in parts):
            seed_everything(seed)
            read[name] = read_images(parts[name], name, shape, options.memory_gib)
    _check_alike(read)
    names = _class_names(parts)
    largest = max(int(images.labels.max()) for images in read.values())
    if names is None or len(names) <= largest:
        names = tuple(map(str, range(largest + 1)))
    divided, note = _divide(read, options, seed)
    return Splits(
        **divided,
        classes=names,
        normalization=_normalization(read["train"], options),
        augmentation=Augmentation(options.crop_padding, options.flip),
        notes=(note,) if note else (),
    )


def _class_names(parts: Mapping[str, object]) -> tuple[str, ...] | None:
    """Those that the parts know; all must have the same, for a label is a place among them."""
    known = [(part, names) for part, source in parts.items() if (names := class_names(source))]
    for part, names in known[1:]:
        first, wanted = known[0]
        if names != wanted:
            raise MbcompressError(
                f"data: {part!r} has the classes {brief(', '.join(names))}, but {first!r} has "
                f"{brief(', '.join(wanted))}; label numbers must mean the same in all parts"
            )
    return known[0][1] if known else None


def _check_alike(read: Mapping[str, Images]) -> None:
    first = read["train"].pixels
    for name, images in read.items():
        if (images.pixels.shape[1:], images.pixels.dtype) != (first.shape[1:], first.dtype):
            kinds = (f"{'x'.join(map(str, each.shape[1:]))} {each.dtype}" for each in (images.pixels, first))
            raise MbcompressError("data: {!r} has images of {}, but 'train' of {}".format(name, *kinds))


def _divide(read: dict[str, Images], options: Loading, seed: int) -> tuple[dict[str, Images], str]:
    """All four splits, and a sentence about those that were split off."""
    train = read["train"]
    test = 0 if "test" in read else round(options.test * len(train))
    sizes = {
        "test": test,
        "validation": round(options.validation * (len(train) - test)),
        "calibration": options.calibration,
    }
    sizes = {name: size for name, size in sizes.items() if name not in read}
    left = len(train) - sum(sizes.values())
    if not sizes:
        return read, ""
    division = ", ".join(f"{name} {max(size, 0)}" for name, size in {**sizes, "train": left}.items())
    if min(*sizes.values(), left) < 1:
        raise MbcompressError(
            f"data: {len(train)} images in 'train' are too few to split off what was not given ({division}); "
            "lower 'calibration', or bring more images or the missing splits"
        )
    order = stratified_order(train.labels, seed)
    *pieces, rest = np.split(order, np.cumsum(list(sizes.values())))
    divided = {name: train.take(piece) for name, piece in zip(sizes, pieces, strict=True)}
    note = f"data: of {len(train)} images in 'train', some were split off for what was not given: {division}"
    return {**read, **divided, "train": train.take(rest)}, note


def _normalization(train: Images, options: Loading) -> Normalization:
    channels = train.pixels.shape[1]
    if train.pixels.dtype == np.float32:
        if options.mean is not None or options.std is not None:
            raise MbcompressError(
                "data: images are floating-point, which are taken as normalised already; remove 'mean' and 'std', or "
                "bring uint8"
            )
        return Normalization.identity(channels)
    values = {"mean": options.mean or (0.5,), "std": options.std or (0.5,)}
    for name, given in values.items():
        if len(given) not in (1, channels):
            raise MbcompressError(f"data: {name!r} must be one number or {channels}, one a channel, got {len(given)}")
    mean, std = (given * (channels if len(given) == 1 else 1) for given in values.values())
    return Normalization(mean, std)
