"""Baseline against result in words: the rows of the table, and the verdict in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mbcompress.report import measured, wording
from mbcompress.report.wording import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Cell:
    """A figure and, in smaller type, what belongs to it."""

    value: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One figure of both models."""

    label: str
    baseline: Cell
    result: Cell
    change: Change
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """'2.25x faster, 6.07x smaller, 0.3 points LESS accurate (p = 0.45)' and 'on 359 test images, …'."""

    changes: tuple[Change, ...]
    setting: str

    def __str__(self) -> str:
        return f"{', '.join(change.text for change in self.changes)} {self.setting}"


def verdict(comparison: dict[str, Any]) -> Verdict:
    """The three figures that matter most, of one thread and of the file as shipped."""
    before, after, ratio = comparison["baseline"], comparison["result"], comparison["ratio"]
    old, new = before["accuracy"]["top1"], after["accuracy"]["top1"]
    accuracy = wording.point_change(old["value"], new["value"], new["n"], wording.ACCURACY)
    p = wording.p_value(comparison["paired"]["p_value"])
    return Verdict(
        (
            _opening(wording.ratio_change(ratio["latency"], wording.SPEED)),
            wording.ratio_change(ratio["size"], wording.SIZE),
            Change(f"{accuracy.text} ({p})", accuracy.worse),
        ),
        f"on {new['n']} test images, in {comparison['runtime']}, {wording.threads(after['latency']['threads'])}",
    )


def _opening(change: Change) -> Change:
    return Change(change.text[0].upper() + change.text[1:], change.worse)


def rows(comparison: dict[str, Any]) -> list[Row]:
    """Every figure of the comparison of one runtime."""
    return [
        *_accuracy(comparison),
        *_metrics(comparison),
        *_latency(comparison),
        _ratio(comparison, "size", "size_bytes", "file size", wording.file_size, wording.SIZE),
        _ratio(comparison, "parameters", "parameters", "parameters", wording.quantity, wording.NUMBER),
        _ratio(comparison, "macs", "macs", "MACs", wording.quantity, wording.NUMBER),
        _memory(comparison),
        _convolutions(comparison),
    ]


def _accuracy(comparison: dict[str, Any]) -> Iterator[Row]:
    before, after = comparison["baseline"]["accuracy"], comparison["result"]["accuracy"]
    for name, old in before.items():
        new = after[name]
        change = wording.point_change(old["value"], new["value"], new["n"], wording.SCORE)
        note = wording.p_value(comparison["paired"]["p_value"]) if name == "top1" else ""
        yield Row(f"accuracy, {name.replace('top', 'top-')}", _proportion(old), _proportion(new), change, note)


def _proportion(counted: dict[str, Any]) -> Cell:
    n = counted["n"]
    interval = wording.percent_between(counted["low"], counted["high"], n)
    return Cell(wording.percent(counted["value"], n), (interval, wording.n_of_m(counted["k"], n)))


def _metrics(comparison: dict[str, Any]) -> Iterator[Row]:
    """What plugins have measured; a figure that compares the two models has none for the baseline alone."""
    images = comparison["result"]["accuracy"]["top1"]["n"]
    for metric, figures in comparison.get("metrics", {}).items():
        for name, figure in figures.items():
            label = wording.title_of(metric if name == metric else f"{metric}, {name}")
            after, unit = figure["value"], figure["unit"]
            old, change = Cell(""), Change("")
            if "baseline" in figure:
                old = Cell(measured.value(figure["baseline"], unit, images))
                change = measured.change(figure["baseline"], after, unit, images, figure["better"])
            yield Row(label, old, Cell(measured.value(after, unit, images)), change)


def _latency(comparison: dict[str, Any]) -> Iterator[Row]:
    before, after = (comparison[who]["latency_by_threads"] for who in ("baseline", "result"))
    for old, new, ratio in zip(before, after, comparison["ratio"]["latency_by_threads"], strict=True):
        change = wording.ratio_change(ratio["median"], wording.SPEED)
        note = wording.times_between(ratio["p5"], ratio["p95"], worse=change.worse)
        yield Row(f"latency, {wording.threads(ratio['threads'])}", _times(old), _times(new), change, note)


def _times(latency: dict[str, Any]) -> Cell:
    spread = wording.milliseconds_between(latency["p5_ms"], latency["p95_ms"])
    return Cell(wording.milliseconds(latency["median_ms"]), (spread,))


def _ratio(
    comparison: dict[str, Any], name: str, key: str, label: str, word: Callable[[float], str], words: wording.Words
) -> Row:
    change = wording.ratio_change(comparison["ratio"][name], words)
    return Row(label, Cell(word(comparison["baseline"][key])), Cell(word(comparison["result"][key])), change)


def _memory(comparison: dict[str, Any]) -> Row:
    before, after = comparison["baseline"]["memory"], comparison["result"]["memory"]
    change = wording.ratio_change(before["peak_bytes"] / after["peak_bytes"], wording.MEMORY)
    return Row("peak memory", _resident(before), _resident(after), change)


def _resident(memory: dict[str, int]) -> Cell:
    return Cell(wording.file_size(memory["peak_bytes"]), (f"model {wording.file_size(memory['model_bytes'])}",))


def _convolutions(comparison: dict[str, Any]) -> Row:
    before, after = comparison["baseline"]["convolutions"], comparison["result"]["convolutions"]
    old, new = (Cell(wording.n_of_m(each["int8"], each["total"])) for each in (before, after))
    return Row("int8 convolutions", old, new, wording.count_change(before["int8"], after["int8"]))
