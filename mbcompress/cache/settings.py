"""Environment variables for the maximum cache size and the checkpoint interval."""

import os

from mbcompress.errors import MbcompressError, shown

LIMIT = "MBCOMPRESS_CACHE_GIB"
"""Environment variable: maximum size of the cache in GiB."""

SECONDS = "MBCOMPRESS_CHECKPOINT_SECONDS"
"""Environment variable: seconds between two training checkpoints."""

DEFAULT_LIMIT_GIB = 10.0
DEFAULT_CHECKPOINT_SECONDS = 60.0


def cache_limit() -> int:
    """Return the maximum size of the cache in bytes, enforced after each run.

    Raises:
        MbcompressError: the environment variable is not a number >= 0.
    """
    return int(_number(LIMIT, DEFAULT_LIMIT_GIB, "GiB") * 2**30)


def checkpoint_seconds() -> float:
    """Return the seconds between two training checkpoints.

    Raises:
        MbcompressError: the environment variable is not a number >= 0.
    """
    return _number(SECONDS, DEFAULT_CHECKPOINT_SECONDS, "seconds")


def _number(variable: str, default: float, unit: str) -> float:
    text = os.environ.get(variable, "")
    try:
        number = float(text) if text else default
        if not 0 <= number < 2**40:
            raise ValueError
    except ValueError:
        raise MbcompressError(f"{variable}: must be a number of {unit}, at least 0, got {shown(text)}") from None
    return number
