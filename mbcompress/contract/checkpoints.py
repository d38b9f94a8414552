"""Checkpoints of the trainings of a pass, by which a run that was killed resumes. These keep nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class Checkpoint:
    """The checkpoint of one training; this one is never saved."""

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return False

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and facts that were saved; None if there are none that can be trusted."""
        return None

    def write(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Save.

        Args:
            tensors: on any device.
            facts: beside them, in types that JSON holds.
        """


class Checkpoints:
    """The checkpoints and decisions of one pass; `mbcompress.cache.checkpoints` keeps them in a folder."""

    def __init__(self) -> None:
        self.earlier_seconds = 0.0
        """Time that earlier processes spent on the pass."""
        self._start = time.monotonic()  # changes of the system clock do not affect it

    @property
    def seconds(self) -> float:
        """Time spent on the pass so far, in all processes."""
        return self.earlier_seconds + time.monotonic() - self._start

    def open(self, label: str) -> Checkpoint:
        """The checkpoint of a training; a second call with the same label opens another one."""
        return Checkpoint()

    def decision(self, name: str) -> dict[str, Any] | None:
        """The decision that was kept under this name; None if there is none that can be read."""
        return None

    def keep_decision(self, name: str, decision: dict[str, Any]) -> None:
        """Keep a decision under this name."""
