"""Small images and datasets, and error messages of datasets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from mbcompress.contract.options import Component
from mbcompress.contract.validation import first_problem
from mbcompress.data import SPLITS as SPLITS
from mbcompress.data.splits import Images, Splits
from mbcompress.errors import MbcompressError

RGB, GRAY = (3, 16, 16), (1, 16, 16)
SMALL: dict[str, Any] = {"calibration": 4}


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own cache."""
    monkeypatch.setenv("MBCOMPRESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


def picture(seed: int, size: tuple[int, int] = (16, 16)) -> Image.Image:
    """Coarse noise as RGB; `size` is (width, height)."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.NEAREST)


def write_classes(root: Path, counts: dict[str, int], start: int = 0) -> Path:
    """PNG files, all different."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            start += 1
            picture(start).save(root / name / f"{number:03}.png")
    return root


def rejection(cls: type[Component], **options: object) -> str:
    """The message for invalid options, without the location."""
    with pytest.raises(ValidationError) as caught:
        cls.model_validate(options)
    return str(first_problem(caught.value, cls))


def failure(load: Callable[[], object]) -> str:
    """The message of a failed load."""
    with pytest.raises(MbcompressError) as caught:
        load()
    message = str(caught.value)
    assert message.startswith("data: ")
    assert "\n" not in message
    return message


def rows(images: Images) -> set[bytes]:
    """The pixels of each image as a set."""
    return {pixels.tobytes() for pixels in images.pixels}


def check_splits(splits: Splits, shape: tuple[int, int, int]) -> None:
    for name in SPLITS:
        images: Images = getattr(splits, name)
        assert images.pixels.shape == (len(images), *shape)
        assert images.pixels.dtype == np.uint8
        assert images.pixels.flags.c_contiguous
        assert images.labels.dtype == np.int64
        assert set(images.labels) <= set(range(len(splits.classes)))
    assert len(splits.normalization.mean) == len(splits.normalization.std) == shape[0]
