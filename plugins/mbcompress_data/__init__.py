"""Datasets: bundled handwritten digits, folders of images, CIFAR-10, and arrays in an .npz file."""

from mbcompress import Dataset, hookimpl

from .arrays import Arrays
from .cifar10 import Cifar10
from .digits import Digits
from .image_folder import ImageFolder


@hookimpl
def mbcompress_datasets() -> list[type[Dataset]]:
    """The bundled datasets."""
    return [Digits, ImageFolder, Cifar10, Arrays]
