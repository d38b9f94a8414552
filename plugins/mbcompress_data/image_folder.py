"""A dataset that is a folder of image files, one folder for each class."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator

from mbcompress import Augmentation, Dataset, Images, Splits

from .folders import check_same_classes, has_own_test, list_classes
from .options import TEST_SHARE, Folder, Mean, Std, normalization
from .reading import read
from .resizing import Resize, check_shape


class ImageFolder(Dataset):
    """Image files in one folder for each class.

    Either `path/<class>/<file>`, from which a share is set aside for the test split, or `path/train/<class>/<file>`
    and `path/test/<class>/<file>`, in which case test images are those in `path/test` and no others; any further folder
    beside the two, such as `val`, is not read. Classes are numbered in sorted order. Hidden files are skipped; anything
    else in a class's folder must be an image (JPEG, PNG, GIF, BMP, WebP, TIFF, PPM, AVIF or JPEG 2000). The first frame
    is read, turned as its EXIF data says, and converted to RGB, or to grey for a model with one input channel. Decoded
    pixels are kept in the user's cache folder, or in `$MBCOMPRESS_CACHE`.
    """

    name: ClassVar[str] = "image_folder"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ()  # the folder is the user's

    path: Folder = Field(description="Folder that holds the folders of the classes, or 'train' and 'test' with them.")
    test: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description=f"Share of the images set aside for the test split, {TEST_SHARE} if not given; refused where the "
        "folder is divided into 'train' and 'test' already.",
    )
    resize: Resize = Field(
        default="crop",
        description="How images reach the model's input size: 'crop' fits the shorter side and keeps the middle, "
        "'stretch' fits both sides, 'pad' fits the longer side and adds black borders.",
    )
    mean: Mean = Field(
        default=(0.485, 0.456, 0.406),
        description="Subtracted from red, green and blue, white being 1; the default is ImageNet's.",
    )
    std: Std = Field(
        default=(0.229, 0.224, 0.225),
        description="What red, green and blue are divided by after that; the default is ImageNet's.",
    )
    crop_padding: int = Field(
        default=4, ge=0, le=1024, description="Pixels of border that training images are randomly cropped from."
    )
    flip: bool = Field(default=True, description="Mirror training images left and right at random.")

    @field_validator("test")
    @classmethod
    def _only_where_undivided(cls, test: float | None, info: ValidationInfo) -> float | None:
        path = info.data.get("path")
        if test is not None and path and has_own_test(path):
            raise ValueError(f"{str(path)!r} has a test folder of its own; remove this option")
        return test

    def load(self, input_shape: tuple[int, int, int], seed: int) -> Splits:
        """List the files and decode them, or take their pixels from the cache."""
        check_shape(input_shape)
        images, test, classes = self._read(input_shape)
        return Splits.divide(
            images,
            test,
            calibration=self.calibration,
            validation=self.validation,
            seed=seed,
            classes=classes,
            normalization=normalization(self.mean, self.std, input_shape[0]),
            augmentation=Augmentation(crop_padding=self.crop_padding, flip=self.flip),
        )

    def _read(self, shape: tuple[int, int, int]) -> tuple[Images, Images | float, tuple[str, ...]]:
        if not has_own_test(self.path):
            everything = list_classes(self.path)
            (images,) = read([everything], shape, self.resize)
            return images, self.test or TEST_SHARE, everything.classes
        listings = train, test = [list_classes(self.path / part) for part in ("train", "test")]
        check_same_classes(train, test)
        images, test_images = read(listings, shape, self.resize)
        return images, test_images, train.classes
