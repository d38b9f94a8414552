"""How large the cache may grow, and how often a training is saved: environment variables."""

import os

from mbcompress.errors import MbcompressError, shown

LIMIT = "MBCOMPRESS_CACHE_GIB"
"""Environment variable: the largest size of the cache."""

SECONDS = "MBCOMPRESS_CHECKPOINT_SECONDS"
"""Environment variable: seconds between two training checkpoints, the most that is lost when a run is killed."""

DEFAULT_LIMIT_GIB = 10.0
DEFAULT_CHECKPOINT_SECONDS = 60.0


def cache_limit() -> int:
    """The size in bytes that the cache is evicted down to after each run.

    Raises:
        MbcompressError: the environment variable is not a number that is at least 0.
    """
    return int(_number(LIMIT, DEFAULT_LIMIT_GIB, "GiB") * 2**30)


def checkpoint_seconds() -> float:
    """Seconds between two training checkpoints.

    Raises:
        MbcompressError: the environment variable is not a number that is at least 0.
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
