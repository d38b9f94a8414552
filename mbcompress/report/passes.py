"""Figures of the model as loaded and after each pass, as text."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mbcompress.report import wording

if TYPE_CHECKING:
    from mbcompress.report.wording import Change

CORE = ("validation_top1", "validation_images", "parameters", "macs")  # the pipeline reports these for every pass


@dataclass(frozen=True)
class Value:
    """One figure of the model after a pass.

    Attributes:
        share: relative to the loaded model; for an accuracy, the accuracy itself.
        short: the share as text.
        text: the figure itself as text.
        change: from the previous row; None if the figure did not change.
    """

    share: float
    short: str
    text: str
    change: Change | None

    @property
    def worse(self) -> bool:
        """Whether the pass changed the figure for the worse."""
        return self.change is not None and self.change.worse


@dataclass(frozen=True)
class PassRow:
    """The model after a pass; `seconds` is the duration of the pass."""

    name: str
    seconds: str
    top1: Value
    parameters: Value
    macs: Value
    extra: tuple[str, ...]


def validation_images(report: dict[str, Any]) -> int:
    """Number of images behind `top1`."""
    return int(report["loaded"]["validation_images"])


def pass_rows(report: dict[str, Any]) -> list[PassRow]:
    """One row for the loaded model, then one for each pass."""
    loaded = report["loaded"]
    records = [{"name": "loaded", "seconds": None, "metrics": loaded}, *report["passes"]]
    return [_row(record, previous["metrics"], loaded) for previous, record in pairwise([records[0], *records])]


def _row(record: dict[str, Any], previous: dict[str, Any], loaded: dict[str, Any]) -> PassRow:
    metrics = record["metrics"]
    return PassRow(
        record["name"],
        _duration(record),
        _accuracy(metrics, previous),
        _amount("parameters", metrics, previous, loaded),
        _amount("macs", metrics, previous, loaded),
        tuple(
            f"{wording.title_of(name)} {wording.value_of(value)}" for name, value in metrics.items() if name not in CORE
        ),
    )


def _duration(record: dict[str, Any]) -> str:
    if record["seconds"] is None:
        return ""
    # a cached pass reports the seconds of the run that computed it
    return wording.duration(record["seconds"]) + (", from the cache" if record.get("cached") else "")


def _accuracy(metrics: dict[str, Any], previous: dict[str, Any]) -> Value:
    before, value, images = previous["validation_top1"], metrics["validation_top1"], metrics["validation_images"]
    text = wording.percent(value, images)
    change = wording.point_change(before, value, images, wording.SCORE) if value != before else None
    return Value(value, text, text, change)


def _amount(name: str, metrics: dict[str, Any], previous: dict[str, Any], loaded: dict[str, Any]) -> Value:
    before, value = previous[name], metrics[name]
    share = value / loaded[name]
    change = wording.ratio_change(before / value, wording.NUMBER) if value != before else None
    return Value(share, f"{100 * share:.0f} %", wording.quantity(value), change)
