"""What a run gives back to the program that started it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        model: the compressed model in eval mode, (N, C, H, W) float32 -> (N, num_classes) logits.
        report: what report.json holds.
        path: the run directory.
    """

    model: nn.Module
    report: dict[str, Any]
    path: Path

    @property
    def artifacts(self) -> list[Path]:
        """The exported files of the compressed model, the first of them in the report's `result`."""
        return [self.path / artifact["path"] for artifact in self.report["artifacts"] if artifact["role"] == "result"]

    @property
    def missed(self) -> list[dict[str, Any]]:
        """Limits of the recipe's budget that the run did not keep."""
        return [gate for gate in self.report["budget"] if not gate["met"]]
