"""Location and status of the compiled kernels; does not import torch."""

from pathlib import Path
from typing import NamedTuple

KERNELS = Path(__file__).with_name("kernels.so")


class Status(NamedTuple):
    """Whether the compiled kernels are used; `level` is their instruction set, `reason` is why they are not."""

    compiled: bool
    level: str = ""
    reason: str = ""
