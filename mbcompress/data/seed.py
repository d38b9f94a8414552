"""The random numbers that everybody shares: torch's, NumPy's and Python's."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """What draws without a generator of its own gives the same from here on."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # strangers' code may still draw from it
    torch.manual_seed(seed)


@contextmanager
def fork_rng(devices: Sequence[torch.device]) -> Iterator[None]:
    """Whoever called draws what would have been drawn without the block.

    Args:
        devices: CUDA devices that the block may use.
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
