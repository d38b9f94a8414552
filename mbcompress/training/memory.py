"""glibc gives large blocks back to the system when they are freed, and the system hands them out page by page again.

A training allocates the same large activations in every step; keeping the memory made steps of MobileNetV2 up to 1.6
times as fast on a virtual machine (bf16, batch 128, features at 1/8 of 32 px).
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of mallopt(3), with their defaults
DEFAULT_TRIM_THRESHOLD, DEFAULT_MMAP_MAX = 128 * 1024, 65536
NEVER = -1


@contextmanager
def kept_memory() -> Iterator[None]:
    """Blocks that are freed stay with the process while this runs, and go back afterwards; nothing without glibc."""
    try:
        libc = ctypes.CDLL(None)
        set_option, trim = libc.mallopt, libc.malloc_trim
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        yield
        return
    set_option(MMAP_MAX, 0)
    set_option(TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        set_option(MMAP_MAX, DEFAULT_MMAP_MAX)
        set_option(TRIM_THRESHOLD, DEFAULT_TRIM_THRESHOLD)
        trim(0)
