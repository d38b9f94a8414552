"""Options that several datasets share: existing paths, normalization, and options for user files."""

import stat
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from mbcompress import Augmentation, Dataset, Images, Normalization, Splits
from mbcompress.data import Resize

TEST_FRACTION = 0.2
"""Default fraction of the images for the test split, if the data has none."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grayscale: ITU-R BT.601, as in Pillow."""


def _folder(path: Path) -> Path:
    path, mode = _look_up(path, "directory")
    if not stat.S_ISDIR(mode):
        raise ValueError(f"not a directory: {str(path)!r}")
    return path


def _file(path: Path) -> Path:
    path, mode = _look_up(path, "file")
    if not stat.S_ISREG(mode):
        raise ValueError(f"not a file: {str(path)!r}")
    return path


def _look_up(path: Path, what: str) -> tuple[Path, int]:
    """Expand `~` and return the path with its mode bits."""
    try:
        path = path.expanduser()
        return path, path.stat().st_mode
    except RuntimeError:
        raise ValueError(f"no such user in {str(path)!r}") from None
    except FileNotFoundError:
        raise ValueError(f"no such {what} {str(path)!r}") from None
    except OSError as error:
        raise ValueError(f"cannot read {str(path)!r}: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"not a path: {str(path)!r} has characters that no path can have") from None


def _one_or_three(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) not in (1, 3):
        raise ValueError(f"must be one number, or three for red, green and blue; got {len(values)}")
    return values


Folder = Annotated[Path, AfterValidator(_folder)]
"""An existing directory; `~` is expanded."""

File = Annotated[Path, AfterValidator(_file)]
"""An existing file; `~` is expanded."""

Mean = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], AfterValidator(_one_or_three)]
Std = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], AfterValidator(_one_or_three)]


def normalization(mean: tuple[float, ...], std: tuple[float, ...], channels: int) -> Normalization:
    """Build the normalization; one value applies to all channels, three are luma-weighted for grayscale models."""
    return Normalization(_per_channel(mean, channels), _per_channel(std, channels))


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(values) == channels:
        return values
    if len(values) == 1:
        return values * channels
    return (sum(weight * value for weight, value in zip(LUMA, values, strict=True)),)


class FileDataset(Dataset):
    """A dataset of user files, which may include a test split."""

    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ()  # the files are the user's

    path: Path
    test: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description=f"Fraction of the images for the test split, {TEST_FRACTION} by default; not allowed if the files "
        "include a test split.",
    )
    resize: Resize = Field(
        default="crop",
        description="How to resize images to the model's input size: 'crop' resizes the shorter side and center-crops; "
        "'stretch' ignores the aspect ratio; 'pad' resizes the longer side and adds black borders.",
    )
    mean: Mean
    std: Std
    crop_padding: int = Field(
        default=4, ge=0, le=1024, description="Zero padding in pixels for random crops of training images."
    )
    flip: bool = Field(default=True, description="Random horizontal flips of training images.")

    @field_validator("test")
    @classmethod
    def _has_no_test(cls, test: float | None, info: ValidationInfo) -> float | None:
        path = info.data.get("path")
        if test is not None and path and (what := cls._own_test(path)):
            raise ValueError(f"{str(path)!r} has {what} of its own; remove this option")
        return test

    @classmethod
    @abstractmethod
    def _own_test(cls, path: Path) -> str | None:
        """Describe the test split that `path` includes; None if there is none."""

    def _divide(
        self, images: Images, test: Images | None, channels: int, seed: int, classes: tuple[str, ...]
    ) -> Splits:
        return Splits.divide(
            images,
            test if test is not None else self.test or TEST_FRACTION,
            calibration=self.calibration,
            validation=self.validation,
            seed=seed,
            classes=classes,
            normalization=normalization(self.mean, self.std, channels),
            augmentation=Augmentation(crop_padding=self.crop_padding, flip=self.flip),
        )
