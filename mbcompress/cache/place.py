"""Where the cache is, and how large it may grow."""

import os

from mbcompress.errors import MbcompressError, shown
from mbcompress.files import cache_folder as cache_folder

LIMIT = "MBCOMPRESS_CACHE_GIB"
"""Environment variable: how large the cache may grow."""

DEFAULT_LIMIT_GIB = 10.0


def cache_limit() -> int:
    """The size in bytes that the cache is brought down to after each run.

    Raises:
        MbcompressError: the environment variable is not a number that is at least 0.
    """
    return int(number_from_environment(LIMIT, DEFAULT_LIMIT_GIB, "GiB") * 2**30)


def number_from_environment(variable: str, default: float, unit: str) -> float:
    """What an environment variable says; `default` where it is not set or empty.

    Raises:
        MbcompressError: it is not a number that is at least 0.
    """
    text = os.environ.get(variable, "")
    try:
        number = float(text) if text else default
        if not 0 <= number < 2**40:
            raise ValueError
    except ValueError:
        raise MbcompressError(f"{variable}: must be a number of {unit}, at least 0, got {shown(text)}") from None
    return number
