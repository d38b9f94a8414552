"""Baseline against result as text: the rows of the table, and a headline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mbcompress.report import wording
from mbcompress.report.wording import Change, Words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPARSE_ABOVE = 0.05  # rounding a dense MobileNet to int8 makes 1 % of its weights zero
DIRECTIONS = {
    "higher": wording.SCORE,
    "lower": Words("lower", "HIGHER", "same"),
    None: Words("higher", "lower", "same"),
}
"""Words for a change of a plugin's metric, by `Measured.better`."""


@dataclass(frozen=True)
class Cell:
    """A figure, and details in smaller type."""

    value: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One figure of baseline and result."""

    label: str
    baseline: Cell
    result: Cell
    change: Change
    note: str = ""


@dataclass(frozen=True)
class Headline:
    """'2.25x faster, 6.07x smaller, 0.3 points LESS accurate (p = 0.45)', and 'on 359 test images, …'."""

    changes: tuple[Change, ...]
    setting: str

    def __str__(self) -> str:
        return f"{', '.join(change.text for change in self.changes)} {self.setting}"


def headline(comparison: dict[str, Any]) -> Headline:
    """Latency at the smallest thread count, file size and top-1 accuracy."""
    before, after, ratio = comparison["baseline"], comparison["result"], comparison["ratio"]
    old, new = before["accuracy"]["top1"], after["accuracy"]["top1"]
    accuracy = wording.point_change(old["value"], new["value"], new["n"], wording.ACCURACY)
    p = wording.p_value(comparison["paired"]["p_value"])
    return Headline(
        (
            _capitalized(wording.ratio_change(ratio["latency"], wording.SPEED)),
            wording.ratio_change(ratio["size"], wording.SIZE),
            Change(f"{accuracy.text} ({p})", accuracy.worse),
        ),
        f"on {new['n']} test images, in {comparison['runtime']}, {wording.threads(after['latency']['threads'])}",
    )


def _capitalized(change: Change) -> Change:
    return Change(change.text[0].upper() + change.text[1:], change.worse)


def rows(comparison: dict[str, Any]) -> list[Row]:
    """All figures of one runtime."""
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
        yield Row(f"{name.replace('top', 'top-')} accuracy", _proportion(old), _proportion(new), change, note)


def _proportion(counted: dict[str, Any]) -> Cell:
    n = counted["n"]
    interval = wording.percent_between(counted["low"], counted["high"], n)
    return Cell(wording.percent(counted["value"], n), (interval, wording.n_of_m(counted["k"], n)))


def _metrics(comparison: dict[str, Any]) -> Iterator[Row]:
    """Metrics of plugins; a figure that compares both models has no value for the baseline."""
    images = comparison["result"]["accuracy"]["top1"]["n"]
    for metric, figures in comparison.get("metrics", {}).items():
        for name, figure in figures.items():
            label = wording.title_of(metric if name == metric else f"{metric}, {name}")
            after, unit = figure["value"], figure["unit"]
            old, change = Cell(""), Change("")
            if "baseline" in figure:
                old = Cell(metric_value(figure["baseline"], unit, images))
                change = metric_change(figure["baseline"], after, unit, images, figure["better"])
            yield Row(label, old, Cell(metric_value(after, unit, images)), change)


def metric_value(figure: float | None, unit: str, images: int) -> str:
    """'2.3 %', with the decimals that so many images can resolve; '0.1234 nats'."""
    if figure is None:
        return "undefined"
    if unit == "%":
        return wording.percent(figure / 100, images)
    return f"{wording.value_of(float(figure))} {unit}".rstrip()


def metric_change(before: float | None, after: float | None, unit: str, images: int, better: str | None) -> Change:
    """'1.3 points HIGHER' if lower is better, '0.0123 nats lower', 'same'."""
    if before is None or after is None:
        lost = after is None and before is not None
        return Change("UNDEFINED" if lost else "", worse=lost)
    words = DIRECTIONS[better]
    if better == "lower":
        before, after = after, before
    if unit == "%":
        changed = wording.point_change(before / 100, after / 100, images, words)
    elif before == after:
        changed = Change(words.same)
    else:
        size = f"{abs(after - before):.3g} {unit}".rstrip()
        changed = Change(f"{size} {words.better if after > before else words.worse}", worse=after < before)
    return Change(changed.text, worse=changed.worse and better is not None)


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
    """No row for reports of versions that did not measure this."""
    before, after = (comparison[who].get("compressed_bytes") for who in ("baseline", "result"))
    if before and after:
        old, new = Cell(wording.file_size(before)), Cell(wording.file_size(after))
        yield Row("file size, zlib", old, new, wording.ratio_change(before / after, wording.SIZE))


def _zero_weights(comparison: dict[str, Any]) -> Iterator[Row]:
    """No row if both models are dense or the runtime cannot count."""
    if is_sparse(comparison["baseline"]) or is_sparse(comparison["result"]):
        old, new = (comparison[who].get("zero_weights") for who in ("baseline", "result"))
        change = wording.zeros_change(old["zero"], new["zero"]) if old and new else Change("")
        yield Row("zero weights", _zeros(old), _zeros(new), change)


def is_sparse(figures: dict[str, Any]) -> bool:
    """Whether more weights are zero than rounding to int8 explains."""
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
    old, new = (Cell(wording.n_of_m(counted["int8"], counted["total"])) for counted in (before, after))
    return Row("int8 convolutions", old, new, wording.count_change(before["int8"], after["int8"]))
