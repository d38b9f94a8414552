"""Where the cache is, and how large it may grow."""

import os
from pathlib import Path

import platformdirs

from mbcompress.errors import MbcompressError, shown

CACHE = "MBCOMPRESS_CACHE"
"""Environment variable: the folder of the cache, in place of `mbcompress` in the user's cache folder."""

LIMIT = "MBCOMPRESS_CACHE_GIB"
"""Environment variable: how large the cache may grow."""

DEFAULT_LIMIT_GIB = 10.0


def cache_folder() -> Path:
    """The folder of the cache, which need not exist."""
    return Path(os.environ.get(CACHE) or platformdirs.user_cache_dir("mbcompress")).expanduser()


def cache_limit() -> int:
    """The size in bytes that the cache is brought down to after each run.

    Raises:
        MbcompressError: the environment variable is not a number that is at least 0.
    """
    text = os.environ.get(LIMIT, "")
    try:
        gib = float(text) if text else DEFAULT_LIMIT_GIB
        if not 0 <= gib < 2**40:
            raise ValueError
    except ValueError:
        raise MbcompressError(f"{LIMIT}: must be a number of GiB, at least 0, got {shown(text)}") from None
    return int(gib * 2**30)
