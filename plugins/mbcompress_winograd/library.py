"""The compiled kernels: where they are, and whether they can be used. No torch."""

from pathlib import Path
from typing import NamedTuple

KERNELS = Path(__file__).with_name("kernels.so")


class Status(NamedTuple):
    """Whether the compiled kernel is in use; `level` are its instructions, `reason` says why it is not."""

    compiled: bool
    level: str = ""
    reason: str = ""
