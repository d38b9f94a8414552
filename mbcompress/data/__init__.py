"""Labeled images: reading, splitting and batching.

In: arrays, loaders, Datasets and image files. Out: `Splits` in memory, and batches of tensors. May import: `contract`.

These names are for plugins that load data; `Splits`, `Images`, `Normalization` and `Augmentation` are exported by
`mbcompress`.
"""

from mbcompress.data.arrays import class_labels
from mbcompress.data.decoding import decode_image, quiet_pillow
from mbcompress.data.images import Resize, allocate, check_channels, pil_to_array, resize_images
from mbcompress.data.loading import LoadingOptions, load_splits
from mbcompress.data.splits import SPLITS
from mbcompress.files import cache_folder

__all__ = [
    "SPLITS",
    "LoadingOptions",
    "Resize",
    "allocate",
    "cache_folder",
    "check_channels",
    "class_labels",
    "decode_image",
    "load_splits",
    "pil_to_array",
    "quiet_pillow",
    "resize_images",
]
