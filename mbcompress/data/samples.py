"""Reads labelled images from whatever holds them: loaders, datasets, generators, arrays.

What one step of such a thing gives may be one image or a batch, a pair or a mapping, a PIL image, an array or a tensor,
height first or channels first, in bytes or normalised. It comes out as (N, C, H, W) with (N,) labels.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbcompress.data.splits import Images
from mbcompress.errors import MbcompressError, brief, first_line, shown

IMAGE_KEYS = ("image", "images", "img", "pixel_values")
LABEL_KEYS = ("label", "labels", "fine_label", "target", "targets")
MAX_CLASSES = 100_000
TORCH_LOST_A_WORKER = "DataLoader worker"
"""What torch's errors about a worker process that died have in common."""
Array = NDArray[Any]
Shape = tuple[int, int, int]


def read_images(source: object, name: str, shape: Shape | None, memory: float) -> Images:
    """Read everything that `source` gives, once.

    Args:
        source: an iterable of (images, labels), or something with a length and items.
        name: what errors call it.
        shape: (C, H, W) that the model takes: PIL images are brought to it, anything else must have it. None takes the
            images as they are.
        memory: the most that the images may take, in GiB.

    Raises:
        MbcompressError: there are none, they differ in shape or kind, or a label is not a class number.
    """
    where = f"data: {name!r}"
    try:
        return _read(source, where, shape, memory)
    except RuntimeError as error:  # torch raises it in a signal handler, wherever the process happens to be
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
        images, numbers = _pair(item, columns, at)
        try:
            new_labels, batched = _labels(numbers, at)
            batch = _pixels(images if batched else [images], len(new_labels), shape, at)
        except (TypeError, ValueError, OSError) as error:  # of NumPy, torch or PIL, about what a stranger's loader gave
            raise MbcompressError(f"{at} cannot be read as images and labels: {brief(first_line(error))}") from error
        if pixels and (batch.shape[1:], batch.dtype) != (pixels[0].shape[1:], pixels[0].dtype):
            raise MbcompressError(f"{at} is {_kind(batch)}, but those before are {_kind(pixels[0])}")
        pixels.append(batch)
        labels.append(new_labels)
        count, size = count + len(new_labels), size + batch.nbytes
        if size > memory * 2**30:
            raise MbcompressError(
                f"{where} takes more than {memory:g} GiB after {count} images of {_kind(batch)}; bring fewer (an "
                "endless loader needs an end), smaller ones or uint8, or raise 'memory_gib'"
            )
    if not count:
        raise MbcompressError(f"{where} gave no images; an iterator that was read before has nothing left to give")
    return Images(np.ascontiguousarray(np.concatenate(pixels)), np.concatenate(labels))


def class_names(source: object) -> tuple[str, ...] | None:
    """Names of the classes, where a dataset knows them, by its own attribute or behind a loader or a subset."""
    for _ in range(8):  # subsets of subsets
        features = getattr(source, "features", None)
        if isinstance(features, Mapping):
            labels = [key for key, feature in features.items() if type(feature).__name__ == "ClassLabel"]
            first = next((key for key in LABEL_KEYS if key in labels), labels[0] if labels else None)
            names = features[first].names if first else None
        else:
            names = getattr(source, "classes", None)
        if isinstance(names, Sequence) and not isinstance(names, str) and all(isinstance(each, str) for each in names):
            return tuple(names) or None
        if not hasattr(source, "dataset"):
            return None
        source = source.dataset
    return None


def _columns(source: object, where: str) -> tuple[str, str] | None:
    """Image and label column of a Hugging Face dataset."""
    features = getattr(source, "features", None)
    if not isinstance(features, Mapping):
        return None
    images = [key for key, feature in features.items() if type(feature).__name__ == "Image"]
    labels = [key for key, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    images += [key for key in IMAGE_KEYS if key in features]
    labels = [key for key in LABEL_KEYS if key in labels] + labels + [key for key in LABEL_KEYS if key in features]
    if not images or not labels:
        raise MbcompressError(f"{where} must have an image and a label column, got {', '.join(map(str, features))}")
    return images[0], labels[0]


def _items(source: object, where: str) -> Iterator[Any]:
    """What the source gives one after the other; what it raises becomes a sentence."""
    if isinstance(source, tuple | list) and len(source) == 2 and all(hasattr(each, "shape") for each in source):
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
    except Exception as error:  # a stranger's loader may raise anything
        if _lost_a_worker(items) or TORCH_LOST_A_WORKER in str(error):
            raise _worker_died(where) from error
        problem = f": {brief(first_line(error))}" if str(error) else ""
        raise MbcompressError(f"{where} raised {type(error).__name__}{problem}, after {count} items") from error


def _lost_a_worker(items: object) -> bool:
    """Whether a process that a DataLoader had started died; ends the others.

    What torch raises then depends on who sees it first: a queue that is closed, or a signal handler, in the midst of
    anything and as long as the loader's iterator lives. So that is ended here.
    """
    if not (workers := getattr(items, "_workers", ())):
        return False
    with suppress(RuntimeError):  # the handler's: it raises once
        items._shutdown_workers()  # type: ignore[attr-defined]
    return any(worker.exitcode not in (0, None, -signal.SIGTERM) for worker in workers)


def _worker_died(where: str) -> MbcompressError:
    advice = "it may have run out of memory; num_workers=0 does without workers"
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


def _array(value: Any) -> Array:
    """An array from a tensor or whatever NumPy takes."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value  # NumPy knows no bfloat16
    return np.asarray(value)


def _labels(value: Any, at: str) -> tuple[NDArray[np.int64], bool]:
    """(n,) int64, and whether they came as a batch."""
    if isinstance(value, list | tuple):
        value = [_array(each) for each in value]
    array = _array(value)
    if array.dtype.kind not in "iu":
        found = shown(value) if array.ndim == 0 else f"{array.dtype} values"
        raise MbcompressError(f"{at}: labels must be whole numbers, got {found}")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim > 1:
        raise MbcompressError(
            f"{at}: labels must be one class number for each image, got shape {array.shape}; "
            "of one-hot labels, take the argmax"
        )
    numbers = np.atleast_1d(array).astype(np.int64)
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < MAX_CLASSES):
        worst = numbers.min() if numbers.min() < 0 else numbers.max()
        raise MbcompressError(f"{at}: labels must be from 0 and below {MAX_CLASSES}, got {worst}")
    return numbers, array.ndim == 1


def _pixels(images: Any, count: int, shape: Shape | None, at: str) -> Array:
    """(n, C, H, W) uint8 or float32 from a batch of images."""
    first_is_channels = hasattr(images, "detach")
    if isinstance(images, list | tuple):
        first_is_channels = any(hasattr(each, "detach") for each in images)
        each_one = [_from_pil(each, shape, at) if hasattr(each, "convert") else _array(each) for each in images]
        if len({(each.shape, each.dtype) for each in each_one}) > 1:
            raise MbcompressError(f"{at}: images of one batch differ in shape or kind; bring them to one size")
        images = np.stack(each_one) if each_one else np.empty((0, 1, 1), np.uint8)
    array = _array(images)
    if array.ndim < 3 or len(array) != count:
        raise MbcompressError(f"{at}: {count} labels came with images of shape {array.shape}")
    array = _numbers(_channels_first(array, shape, first_is_channels, at), at)
    if shape is not None and array.shape[1:] == (1, *shape[1:]):
        array = array.repeat(shape[0], axis=1)  # grey for a model that takes colour
    if shape is not None and array.shape[1:] != shape:
        raise MbcompressError(f"{at} is {_kind(array)}, but the model takes {'x'.join(map(str, shape))}; resize it")
    return array


def _channels_first(array: Array, shape: Shape | None, first_is_channels: bool, at: str) -> Array:
    """(n, C, H, W) from that, (n, H, W, C) or (n, H, W); the model's own shape decides where both would do."""
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4 or 0 in array.shape[1:]:
        raise MbcompressError(f"{at}: images must be (C, H, W), (H, W, C) or (H, W), got {array.shape[1:]}")
    last = array.transpose(0, 3, 1, 2)
    if shape is not None and (array.shape[1:] == shape) != (last.shape[1:] == shape):
        return array if array.shape[1:] == shape else last
    return last if array.shape[3] in (1, 3) and not first_is_channels else array


def _numbers(array: Array, at: str) -> Array:
    """Bytes as they are; anything floating as float32."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise MbcompressError(f"{at}: pixels must be uint8, or floating-point and normalised, got {array.dtype}")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise MbcompressError(f"{at}: pixels must be finite, got NaN or infinity")
    return array


def _from_pil(image: Any, shape: Shape | None, at: str) -> Array:
    """(C, H, W) uint8: grey or RGB, cropped in the middle and resized to the model's size where that is known."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    if image.mode == "F" or image.mode.startswith("I"):
        raise MbcompressError(f"{at}: PIL images must have 8 bits a channel, got mode {image.mode!r}")
    grey = shape[0] == 1 if shape else image.mode in ("1", "L", "LA")
    image = image.convert("L" if grey else "RGB")
    if shape and image.size != shape[:0:-1]:
        image = ImageOps.fit(image, shape[:0:-1], Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _kind(array: Array) -> str:
    """'3x32x32 uint8'."""
    return f"{'x'.join(map(str, array.shape[1:]))} {array.dtype}"
