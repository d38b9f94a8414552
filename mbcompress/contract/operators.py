"""OperatorSet: operators of torch that a plugin brings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path


class OperatorSet(ABC):
    """Operators of torch that a plugin brings, so that models which use them can be stored, read back and shipped.

    Their code is the plugin's, installed by the user: a stored graph may name them, and brings no code itself. Nothing
    here may import torch but `register`.
    """

    name: ClassVar[str]
    """The namespace, as in `torch.ops.NAME`."""

    operators: ClassVar[frozenset[str]]
    """With their overloads: 'mbcompress.depthwise3x3.default'. They must be functions of tensors and numbers that
    neither read files nor run code that an argument names."""

    @abstractmethod
    def register(self) -> None:
        """Make the operators known to torch; a second call does nothing."""

    @property
    def library(self) -> Path | None:
        """The shared library that registers them by itself, which a file for other programs can carry."""
        return None

    @property
    def status(self) -> str:
        """How they are computed here, or why only slowly, for `mbcompress doctor`."""
        return "in Python"
