"""Option types that several datasets share: paths that must exist, and normalisation for any number of channels."""

import stat
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from mbcompress import Normalization

TEST_SHARE = 0.2
"""Share of the images that becomes the test split where the data has none of its own."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey: ITU-R BT.601, which Pillow uses too."""


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
    """The path with `~` expanded, and its mode bits."""
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
        raise ValueError(f"no path has characters like those in {str(path)!r}") from None


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
    """One value serves every channel; three become their luma-weighted mean where the model sees grey only."""
    return Normalization(_per_channel(mean, channels), _per_channel(std, channels))


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(values) == channels:
        return values
    if len(values) == 1:
        return values * channels
    return (sum(weight * value for weight, value in zip(LUMA, values, strict=True)),)
