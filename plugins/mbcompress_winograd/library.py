"""Where the compiled kernels are, and whether they serve. No torch."""

from pathlib import Path
from typing import NamedTuple

KERNELS = Path(__file__).with_name("kernels.so")


class Status(NamedTuple):
    """Whether the compiled kernel serves; `level` are the instructions it uses, `reason` says why it does not."""

    compiled: bool
    level: str = ""
    reason: str = ""
