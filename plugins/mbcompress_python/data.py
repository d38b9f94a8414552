"""A dataset from a Python callable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from mbcompress import Dataset, MbcompressError, Splits
from mbcompress.data import SPLITS, LoadingOptions, load_splits

from . import target
from .model import Target


class PythonData(LoadingOptions, Dataset):
    """Your own data, from a callable in a Python module.

    It returns a mapping with 'train' and optionally 'calibration', 'validation' and 'test'. Each value is an iterable
    of (images, labels), a torch Dataset or DataLoader, or a Hugging Face image dataset. A single value is used as
    'train'.
    """

    name: ClassVar[str] = "python"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ()

    target: Target = Field(
        description="'package.module:callable'. It is imported and called, so only use code that you trust."
    )
    args: dict[str, Any] = Field(default={}, description="Keyword arguments of the callable.")

    def load(self, input_shape: tuple[int, int, int], seed: int) -> Splits:
        data = target.call(self.target, self.args)
        if isinstance(data, Splits):
            # ignore defaults: the recipe in a run directory lists them too
            if ignored := sorted(self.model_dump(exclude={"target", "args"}, exclude_defaults=True)):
                raise MbcompressError(
                    f"{self.target}: returns Splits, which are already split and normalized; leave out "
                    f"{', '.join(map(repr, ignored))}"
                )
            return data
        if not isinstance(data, Mapping):
            data = {"train": data}
        if unknown := [key for key in data if key not in SPLITS]:
            raise MbcompressError(f"{self.target}: must return {', '.join(SPLITS)}, got {unknown[0]!r}")
        return load_splits(data, self, input_shape, seed)
