"""Data that a Python callable brings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from mbcompress import Dataset, MbcompressError, Splits
from mbcompress.data.loading import NAMES, Loading, load_splits

from . import target
from .model import Target


class PythonData(Loading, Dataset):
    """Data of your own: what a callable in a Python module returns.

    That is a mapping with 'train' and any of 'calibration', 'validation' and 'test', each an iterable of (images,
    labels), a torch Dataset or DataLoader, or a Hugging Face image dataset; or one of these alone, as 'train'.
    """

    name: ClassVar[str] = "python"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ()

    target: Target = Field(
        description="'package.module:callable'. It is imported and called, so name only code that you trust."
    )
    args: dict[str, Any] = Field(default={}, description="Keyword arguments of the callable.")

    def load(self, input_shape: tuple[int, int, int], seed: int) -> Splits:
        given = target.call(self.target, self.args)
        if isinstance(given, Splits):
            # not the defaults, which a run's own recipe names too
            if ignored := sorted(self.model_dump(exclude={"target", "args"}, exclude_defaults=True)):
                raise MbcompressError(
                    f"{self.target}: returns Splits, which are divided and normalised already; leave out "
                    f"{', '.join(map(repr, ignored))}"
                )
            return given
        if not isinstance(given, Mapping):
            given = {"train": given}
        if unknown := [key for key in given if key not in NAMES]:
            raise MbcompressError(f"{self.target}: must return {', '.join(NAMES)}, got {unknown[0]!r}")
        return load_splits(given, self, input_shape, seed)
