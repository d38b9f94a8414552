"""Checkpoints of the trainings of a pass, to resume a killed run. These base classes store nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class Checkpoint:
    """The checkpoint of one training. This base class never saves."""

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return False

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the saved tensors and facts; None if there are none or they are damaged."""
        return None

    def write(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Save a checkpoint.

        Args:
            tensors: on any device.
            facts: everything else, JSON-serializable.
        """


class Checkpoints:
    """The checkpoints and decisions of one pass; `mbcompress.cache.checkpoints` stores them on disk."""

    def __init__(self) -> None:
        self.earlier_seconds = 0.0
        """Seconds that earlier, interrupted processes spent on the pass."""
        self._start = time.monotonic()  # not affected by changes of the system clock

    @property
    def seconds(self) -> float:
        """Seconds spent on the pass so far, including earlier processes."""
        return self.earlier_seconds + time.monotonic() - self._start

    def open(self, label: str) -> Checkpoint:
        """Return the checkpoint of a training; a second call with the same label returns a different one."""
        return Checkpoint()

    def decision(self, name: str) -> dict[str, Any] | None:
        """Return the decision stored under this name; None if there is none or it cannot be read."""
        return None

    def keep_decision(self, name: str, decision: dict[str, Any]) -> None:
        """Store a decision under this name."""
