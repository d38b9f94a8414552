"""Seed and restore the global random number generators of torch, NumPy and Python."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch, NumPy and Python."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # models and loaders may use it
    torch.manual_seed(seed)


@contextmanager
def fork_rng(devices: Sequence[torch.device]) -> Iterator[None]:
    """Restore the state of the global generators after the block.

    Args:
        devices: CUDA devices whose state is restored.
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
