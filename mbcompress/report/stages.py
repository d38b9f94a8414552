"""The model as loaded and after each pass, in words: what every pass took and gave."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mbcompress.report import wording

if TYPE_CHECKING:
    from mbcompress.report.wording import Change

CORE = ("validation_top1", "validation_images", "parameters", "macs")  # what the pipeline reports of every pass


@dataclass(frozen=True)
class Figure:
    """A figure of a stage.

    Attributes:
        share: of the loaded model's; of the images, where it is an accuracy.
        short: the share in words.
        change: since the stage before, if there was any.
    """

    share: float
    short: str
    text: str
    change: Change | None

    @property
    def worse(self) -> bool:
        """Whether the pass took of what it should have kept or raised."""
        return self.change is not None and self.change.worse


@dataclass(frozen=True)
class Stage:
    """The model between two passes; `seconds` is how long the pass before took."""

    name: str
    seconds: str
    top1: Figure
    parameters: Figure
    macs: Figure
    extra: tuple[str, ...]


def validation_images(report: dict[str, Any]) -> int:
    """How many images `top1` of each stage was taken on."""
    return int(report["loaded"]["validation_images"])


def stages(report: dict[str, Any]) -> list[Stage]:
    """The loaded model, then one stage a pass."""
    loaded = report["loaded"]
    records = [{"name": "loaded", "seconds": None, "metrics": loaded}, *report["passes"]]
    return [_stage(record, previous["metrics"], loaded) for previous, record in pairwise([records[0], *records])]


def _stage(record: dict[str, Any], previous: dict[str, Any], loaded: dict[str, Any]) -> Stage:
    metrics = record["metrics"]
    return Stage(
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
    # the seconds are those of the run that computed it
    return wording.duration(record["seconds"]) + (", from the cache" if record.get("cached") else "")


def _accuracy(metrics: dict[str, Any], previous: dict[str, Any]) -> Figure:
    before, value, images = previous["validation_top1"], metrics["validation_top1"], metrics["validation_images"]
    text = wording.percent(value, images)
    change = wording.point_change(before, value, images, wording.SCORE) if value != before else None
    return Figure(value, text, text, change)


def _amount(name: str, metrics: dict[str, Any], previous: dict[str, Any], loaded: dict[str, Any]) -> Figure:
    before, value = previous[name], metrics[name]
    share = value / loaded[name]
    change = wording.ratio_change(before / value, wording.NUMBER) if value != before else None
    return Figure(share, f"{100 * share:.0f} %", wording.quantity(value), change)
