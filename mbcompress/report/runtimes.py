"""The result in several runtimes, as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mbcompress.report import wording
from mbcompress.report.comparison import Cell
from mbcompress.report.wording import Change


@dataclass(frozen=True)
class RuntimeRow:
    """The result in one runtime; `change` compares its speed with the first runtime."""

    runtime: str
    file: str
    size: str
    top1: str
    agreement: Cell
    int8: str
    latency: Cell
    change: Change
    note: str = ""


def runtime_rows(report: dict[str, Any]) -> list[RuntimeRow]:
    """A row for each runtime; none if there is only one."""
    comparisons = [report, *report["other_runtimes"]]
    return [
        _row(timed, comparison, first=index == 0)
        for index, (timed, comparison) in enumerate(zip(report.get("runtimes", []), comparisons, strict=False))
    ]


def _row(timed: dict[str, Any], comparison: dict[str, Any], *, first: bool) -> RuntimeRow:
    result = comparison["result"]
    top1, agreement, latency, ratio = result["accuracy"]["top1"], timed["agreement"], timed["latency"], timed["ratio"]
    change = Change("") if first else wording.ratio_change(ratio["median"], wording.SPEED)
    return RuntimeRow(
        timed["runtime"],
        timed["file"],
        wording.file_size(result["size_bytes"]),
        wording.percent(top1["value"], top1["n"]),
        Cell(wording.percent(agreement["value"], agreement["n"]), (wording.n_of_m(agreement["k"], agreement["n"]),)),
        wording.n_of_m(result["convolutions"]["int8"], result["convolutions"]["total"]),
        Cell(wording.milliseconds(latency["median"]), (wording.milliseconds_between(latency["p5"], latency["p95"]),)),
        change,
        "" if first else wording.times_between(ratio["p5"], ratio["p95"], worse=change.worse),
    )


def runtimes_caption(report: dict[str, Any]) -> str:
    """What the table compares."""
    first = report["runtimes"][0]
    return (
        "The result's files, each in its own process, timed in the same interleaved rounds on "
        f"{wording.threads(first['threads'])}. The change is relative to {first['runtime']}. Agreement is the share of "
        f"test images with the same class as the baseline in {first['runtime']}."
    )
