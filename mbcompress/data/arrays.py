"""Convert images and labels of any layout and type to (N, C, H, W) uint8 or float32, and (N,) int64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbcompress.contract.models import MAX_CLASSES
from mbcompress.data.images import Shape, pil_to_array
from mbcompress.errors import MbcompressError, shown

Array = NDArray[Any]


def to_array(value: Any) -> Array:
    """Convert a tensor, or anything that NumPy accepts, to an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value  # NumPy has no bfloat16
    return np.asarray(value)


def class_labels(array: Array, where: str) -> NDArray[np.int64]:
    """Convert class indices of shape (n,), (n, 1) or () to (n,) int64.

    Raises:
        MbcompressError: there is not one valid class index per image; the message starts with `where`.
    """
    if array.dtype.kind not in "iu":
        found = shown(array.item()) if array.ndim == 0 else f"{array.dtype} values"
        raise MbcompressError(f"{where}: labels must be integers, got {found}")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim > 1:
        raise MbcompressError(
            f"{where}: labels must be one class index per image, got shape {array.shape}; use argmax for one-hot labels"
        )
    labels = np.atleast_1d(array).astype(np.int64)
    if labels.size and not (labels.min() >= 0 and labels.max() < MAX_CLASSES):
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise MbcompressError(f"{where}: labels must be from 0 and below {MAX_CLASSES}, got {worst}")
    return labels


def image_batch(images: Any, count: int, shape: Shape | None, where: str) -> Array:
    """Return `count` images as (n, C, H, W) uint8 or float32.

    Args:
        images: a batch, as one array or tensor, or as a list of arrays, tensors or PIL images.
        shape: (C, H, W) of the model's input: PIL images are resized to it, others must have it; None accepts any
            shape.

    Raises:
        MbcompressError: there are not `count` images, or they have another shape; the message starts with
            `where`.
    """
    channels_first = hasattr(images, "detach")  # the layout of torch
    if isinstance(images, list | tuple):
        channels_first = any(hasattr(image, "detach") for image in images)
        arrays = [pil_to_array(image, shape) if hasattr(image, "convert") else to_array(image) for image in images]
        if len({(array.shape, array.dtype) for array in arrays}) > 1:
            raise MbcompressError(f"{where}: images of one batch differ in shape or dtype; resize them to one size")
        images = np.stack(arrays) if arrays else np.empty((0, 1, 1), np.uint8)
    array = to_array(images)
    if array.ndim < 3 or len(array) != count:
        raise MbcompressError(f"{where}: {count} labels came with images of shape {array.shape}")
    array = _uint8_or_float32(_channels_first(array, shape, channels_first, where), where)
    if shape is not None and array.shape[1:] == (1, *shape[1:]):
        array = array.repeat(shape[0], axis=1)  # grayscale images for an RGB model
    if shape is not None and array.shape[1:] != shape:
        raise MbcompressError(f"{where} is {kind(array)}, but the model takes {'x'.join(map(str, shape))}; resize it")
    return array


def kind(array: Array) -> str:
    """Describe shape and dtype of the images in a batch: '3x32x32 uint8'."""
    return f"{'x'.join(map(str, array.shape[1:]))} {array.dtype}"


def _channels_first(array: Array, shape: Shape | None, channels_first: bool, where: str) -> Array:
    """Convert (n, C, H, W), (n, H, W, C) or (n, H, W) to (n, C, H, W); the model's shape resolves ambiguity."""
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4 or 0 in array.shape[1:]:
        raise MbcompressError(f"{where}: images must be (C, H, W), (H, W, C) or (H, W), got {array.shape[1:]}")
    last = array.transpose(0, 3, 1, 2)
    if shape is not None and (array.shape[1:] == shape) != (last.shape[1:] == shape):
        return array if array.shape[1:] == shape else last
    return last if array.shape[3] in (1, 3) and not channels_first else array


def _uint8_or_float32(array: Array, where: str) -> Array:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise MbcompressError(f"{where}: pixels must be uint8, or floating-point and normalized, got {array.dtype}")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise MbcompressError(f"{where}: pixels must be finite, got NaN or infinity")
    return array
