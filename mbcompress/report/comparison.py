"""Baseline against result in words: the rows of the table, and the verdict in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mbcompress.report import measured, wording
from mbcompress.report.wording import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPARSE_ABOVE = 0.05  # rounding a dense MobileNet to int8 makes 1 % of its weights zero


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
    """The three figures that matter most, of the fewest threads and of the file as shipped."""
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
        *_deflated(comparison),
        *_zero_weights(comparison),
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


def _deflated(comparison: dict[str, Any]) -> Iterator[Row]:
    """Nothing for reports of before this was measured."""
    before, after = (comparison[who].get("compressed_bytes") for who in ("baseline", "result"))
    if before and after:
        old, new = Cell(wording.file_size(before)), Cell(wording.file_size(after))
        yield Row("size, deflated", old, new, wording.ratio_change(before / after, wording.SIZE))


def _zero_weights(comparison: dict[str, Any]) -> Iterator[Row]:
    """Nothing where both are dense, or where a runtime cannot tell."""
    if is_sparse(comparison["baseline"]) or is_sparse(comparison["result"]):
        old, new = (comparison[who].get("zero_weights") for who in ("baseline", "result"))
        change = wording.zeros_change(old["zero"], new["zero"]) if old and new else Change("")
        yield Row("zero weights", _zeros(old), _zeros(new), change)


def is_sparse(figures: dict[str, Any]) -> bool:
    """Whether more weights of a file are zero than rounding to int8 makes so."""
    counted = figures.get("zero_weights")
    return counted is not None and counted["zero"] > SPARSE_ABOVE * counted["total"]


def _zeros(counted: dict[str, int] | None) -> Cell:
    if not counted:
        return Cell("unknown")
    share = counted["zero"] / counted["total"] if counted["total"] else 0.0
    words = wording.n_of_m(wording.quantity(counted["zero"]), wording.quantity(counted["total"]))
    return Cell(f"{100 * share:.1f} %", (words,))


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
