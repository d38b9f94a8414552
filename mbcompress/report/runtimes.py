"""The result in several runtimes, side by side, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mbcompress.report import wording
from mbcompress.report.comparison import Cell
from mbcompress.report.wording import Change


@dataclass(frozen=True)
class Deployment:
    """The result as one runtime ships it; `change` is its speed against that of the first runtime."""

    runtime: str
    file: str
    size: str
    top1: str
    agreement: Cell
    int8: str
    latency: Cell
    change: Change
    note: str = ""


def deployments(report: dict[str, Any]) -> list[Deployment]:
    """A row for each runtime; none where there is only one."""
    compared = [report, *report["other_runtimes"]]
    sides = report.get("runtimes", [])
    return [
        _deployment(side, comparison, first=index == 0)
        for index, (side, comparison) in enumerate(zip(sides, compared, strict=False))
    ]


def _deployment(side: dict[str, Any], comparison: dict[str, Any], *, first: bool) -> Deployment:
    result = comparison["result"]
    top1, agreement, latency, ratio = result["accuracy"]["top1"], side["agreement"], side["latency"], side["ratio"]
    change = Change("") if first else wording.ratio_change(ratio["median"], wording.SPEED)
    return Deployment(
        side["runtime"],
        side["file"],
        wording.file_size(result["size_bytes"]),
        wording.percent(top1["value"], top1["n"]),
        Cell(wording.percent(agreement["value"], agreement["n"]), (wording.n_of_m(agreement["k"], agreement["n"]),)),
        wording.n_of_m(result["convolutions"]["int8"], result["convolutions"]["total"]),
        Cell(wording.milliseconds(latency["median"]), (wording.milliseconds_between(latency["p5"], latency["p95"]),)),
        change,
        "" if first else wording.times_between(ratio["p5"], ratio["p95"], worse=change.worse),
    )


def side_by_side(report: dict[str, Any]) -> str:
    """What the table compares, in a sentence or two."""
    first = report["runtimes"][0]
    return (
        f"All files of the result, each in a process of its own, timed in the same interleaved rounds on "
        f"{wording.threads(first['threads'])}; the change is against {first['runtime']}. Agreement is the share of "
        f"test images that get the class that the baseline gives them in {first['runtime']}."
    )
