"""A dataset of image files with one folder per class."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from mbcompress import Splits
from mbcompress.data import check_channels

from .folders import check_same_classes, has_own_test, list_classes
from .options import FileDataset, Folder, Mean, Std
from .reading import read


class ImageFolder(FileDataset):
    """Image files with one folder per class.

    Either `path/<class>/<file>`, a fraction of which becomes the test split, or `path/train/<class>/<file>` and
    `path/test/<class>/<file>`. Other folders next to these two, such as `val`, are not read. Classes are numbered in
    sorted order. Hidden files are skipped; all other files in a class folder must be images (JPEG, PNG, GIF, BMP, WebP,
    TIFF, PPM, AVIF or JPEG 2000). The first frame is read, rotated according to EXIF, and converted to RGB, or to
    grayscale for a model with one input channel. Decoded pixels are cached in the user's cache folder or in
    `$MBCOMPRESS_CACHE`.
    """

    name: ClassVar[str] = "image_folder"

    path: Folder = Field(description="Folder with the class folders, or with 'train' and 'test' that contain them.")
    mean: Mean = Field(
        default=(0.485, 0.456, 0.406),
        description="Mean of red, green and blue in 0..1, for normalization; default: ImageNet.",
    )
    std: Std = Field(
        default=(0.229, 0.224, 0.225),
        description="Standard deviation of red, green and blue, for normalization; default: ImageNet.",
    )

    @classmethod
    def _own_test(cls, path: Path) -> str | None:
        return "a test folder" if has_own_test(path) else None

    def load(self, input_shape: tuple[int, int, int], seed: int) -> Splits:
        """List the files and decode them, or read their pixels from the cache."""
        check_channels(input_shape)
        if not has_own_test(self.path):
            listing = list_classes(self.path)
            (images,) = read([listing], input_shape, self.resize)
            return self._divide(images, None, input_shape[0], seed, listing.classes)
        train, test = (list_classes(self.path / part) for part in ("train", "test"))
        check_same_classes(train, test)
        images, test_images = read([train, test], input_shape, self.resize)
        return self._divide(images, test_images, input_shape[0], seed, train.classes)
