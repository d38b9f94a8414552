"""OperatorSet: custom torch operators of a plugin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path


class OperatorSet(ABC):
    """Custom torch operators of a plugin, so that models that use them can be saved, loaded and exported.

    A stored graph contains only operator names; the code comes from the installed plugin. Only `register` may import
    torch.
    """

    name: ClassVar[str]
    """The namespace, as in `torch.ops.NAME`."""

    operators: ClassVar[frozenset[str]]
    """Full names with overloads: 'mbcompress.depthwise3x3.default'. Operators must be functions of tensors and numbers
    that neither read files nor run code that an argument names."""

    @abstractmethod
    def register(self) -> None:
        """Register the operators with torch; a second call does nothing."""

    @property
    def library(self) -> Path | None:
        """A shared library that registers the operators when loaded, shipped with exported files; None if none."""
        return None

    @property
    def status(self) -> str:
        """How the operators run on this machine, or why they are slow; shown by `mbcompress doctor`."""
        return "in Python"
