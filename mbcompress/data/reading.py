"""Read labeled images from loaders, datasets, generators and arrays.

An item can be one image or a batch, a pair or a mapping, with PIL images, arrays or tensors, channels first or last,
uint8 or normalized.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from mbcompress.data.arrays import Array, class_labels, image_batch, kind, to_array
from mbcompress.data.splits import Images
from mbcompress.errors import MbcompressError, brief, first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mbcompress.data.images import Shape

IMAGE_KEYS = ("image", "images", "img", "pixel_values")
LABEL_KEYS = ("label", "labels", "fine_label", "target", "targets")
TORCH_LOST_A_WORKER = "DataLoader worker"
"""Part of all torch error messages about a dead worker process."""


def read_images(source: object, name: str, shape: Shape | None, memory: float) -> Images:
    """Read all images of `source`, once.

    Args:
        source: an iterable of (images, labels), or an object with a length and items.
        name: the split, for errors.
        shape: (C, H, W) of the model's input: PIL images are resized to it, others must have it; None accepts any
            shape.
        memory: maximum memory for the images, in GiB.

    Raises:
        MbcompressError: there are no images, they differ in shape or dtype, or a label is not a class index.
    """
    where = f"data: {name!r}"
    try:
        return _read(source, where, shape, memory)
    except RuntimeError as error:  # raised by torch's signal handler, anywhere in this process
        if TORCH_LOST_A_WORKER not in str(error):
            raise
        raise _worker_died(where) from error


def _read(source: object, where: str, shape: Shape | None, memory: float) -> Images:
    columns = _columns(source, where)
    pixels: list[Array] = []
    labels: list[NDArray[np.int64]] = []
    count, size = 0, 0
    for item in _items(source, where):
        at = f"{where}, image {count}"
        batch, numbers = _batch(item, columns, shape, at)
        if pixels and (batch.shape[1:], batch.dtype) != (pixels[0].shape[1:], pixels[0].dtype):
            raise MbcompressError(f"{at} is {kind(batch)}, but those before are {kind(pixels[0])}")
        pixels.append(batch)
        labels.append(numbers)
        count, size = count + len(numbers), size + batch.nbytes
        if size > memory * 2**30:
            raise MbcompressError(
                f"{where} needs more than {memory:g} GiB after {count} images of {kind(batch)}; use fewer images (an "
                "infinite loader cannot be read), smaller ones or uint8, or raise 'memory_gib'"
            )
    if not count:
        raise MbcompressError(f"{where} has no images; an iterator can only be read once")
    return Images(np.ascontiguousarray(np.concatenate(pixels)), np.concatenate(labels))


def _batch(
    item: object, columns: tuple[str, str] | None, shape: Shape | None, at: str
) -> tuple[Array, NDArray[np.int64]]:
    """Return pixels (n, C, H, W) and labels (n,) of one item."""
    images, labels = _pair(item, columns, at)
    try:
        labels = to_array([to_array(label) for label in labels] if isinstance(labels, list | tuple) else labels)
        numbers = class_labels(labels, at)
        return image_batch(images if labels.ndim else [images], len(numbers), shape, at), numbers
    except (TypeError, ValueError, OSError) as error:  # from NumPy, torch or PIL
        raise MbcompressError(f"{at} cannot be read as images and labels: {brief(first_line(error))}") from error


def class_names(source: object) -> tuple[str, ...] | None:
    """Return the class names of a dataset, also through loaders and subsets; None if it has none."""
    for _ in range(8):  # subsets of subsets
        features = getattr(source, "features", None)
        if isinstance(features, Mapping):
            columns = _label_columns(features)
            names = features[columns[0]].names if columns else None
        else:
            names = getattr(source, "classes", None)
        if isinstance(names, Sequence) and not isinstance(names, str) and all(isinstance(name, str) for name in names):
            return tuple(names) or None
        if not hasattr(source, "dataset"):
            return None
        source = source.dataset
    return None


def _columns(source: object, where: str) -> tuple[str, str] | None:
    """Return the image and label columns of a Hugging Face dataset; None for other sources."""
    features = getattr(source, "features", None)
    if not isinstance(features, Mapping):
        return None
    images = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    images += [key for key in IMAGE_KEYS if key in features]
    labels = _label_columns(features) + [key for key in LABEL_KEYS if key in features]
    if not images or not labels:
        raise MbcompressError(f"{where} must have an image and a label column, got {', '.join(map(str, features))}")
    return images[0], labels[0]


def _label_columns(features: Mapping[str, Any]) -> list[str]:
    """Return the columns with class names, usual names first."""
    columns = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    return [key for key in LABEL_KEYS if key in columns] + columns


def _items(source: object, where: str) -> Iterator[Any]:
    """Yield the items of the source; its exceptions become an `MbcompressError`."""
    if isinstance(source, tuple | list) and len(source) == 2 and all(hasattr(part, "shape") for part in source):
        yield source  # (images, labels) as two arrays
        return
    items: Iterator[Any] = iter(())
    count = 0
    try:
        items = iter(_iterable(source, where))
        for item in items:
            yield item
            count += 1
    except (MbcompressError, GeneratorExit):
        raise
    except Exception as error:  # a user's loader can raise anything
        if _lost_a_worker(items) or TORCH_LOST_A_WORKER in str(error):
            raise _worker_died(where) from error
        problem = f": {brief(first_line(error))}" if str(error) else ""
        raise MbcompressError(f"{where} raised {type(error).__name__}{problem}, after {count} items") from error


def _lost_a_worker(items: object) -> bool:
    """Shut down the workers of a DataLoader; return whether one of them died.

    After a worker dies, torch raises either from a closed queue or from a signal handler, which can raise anywhere
    while the loader's iterator exists. So the iterator is shut down here.
    """
    if not (workers := getattr(items, "_workers", ())):
        return False
    with suppress(RuntimeError):  # from the signal handler, which raises once
        items._shutdown_workers()  # type: ignore[attr-defined]
    return any(worker.exitcode not in (0, None, -signal.SIGTERM) for worker in workers)


def _worker_died(where: str) -> MbcompressError:
    advice = "it may have run out of memory; try num_workers=0"
    return MbcompressError(f"{where}: a worker process of its loader died; {advice}")


def _iterable(source: object, where: str) -> Iterable[Any]:
    if not isinstance(source, str | bytes | Mapping):
        if hasattr(source, "__iter__"):
            return source
        if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
            return (source[index] for index in range(len(source)))
    found = f"got {type(source).__name__}"
    raise MbcompressError(f"{where} must be an iterable of (images, labels), a Dataset or a DataLoader, {found}")


def _pair(item: object, columns: tuple[str, str] | None, at: str) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        image = columns[0] if columns else next((key for key in IMAGE_KEYS if key in item), None)
        label = columns[1] if columns else next((key for key in LABEL_KEYS if key in item), None)
        if image in item and label in item:
            return item[image], item[label]
        raise MbcompressError(f"{at} must have 'image' and 'label', got {', '.join(map(str, item))}")
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    size = f" of {len(item)}" if isinstance(item, tuple | list) else ""
    raise MbcompressError(f"{at} must come as (images, labels), got {type(item).__name__}{size}")
