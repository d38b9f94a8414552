"""The charts of a report: accuracy against latency, and the model after each pass."""

from __future__ import annotations

from typing import Any

from mbcompress.report import wording
from mbcompress.report.passes import PassRow, Value, pass_rows
from mbcompress.report.pictures import ACCENT, FAINT, INK, MUTED, WORSE, inline_svg

WIDTH = 340  # legible on a phone at its own size
ROW, HEAD = 36, 40  # of the waterfall
NAME = 11  # characters of a pass's name that fit beside the bars
LEAST_SPAN = 0.1  # of the accuracy axis of the waterfall; differences of an image or two must look small


def accuracy_against_latency(report: dict[str, Any]) -> str:
    """Baseline and result as points with intervals, joined by an arrow."""
    before, after = report["baseline"], report["result"]
    label = f"Accuracy against latency. Baseline: {_place(before)}. Result: {_place(after)}."
    return inline_svg("accuracy", label, (WIDTH, 270), lambda figure: _paint_accuracy(figure, before, after))


def _place(measured: dict[str, Any]) -> str:
    top1, latency = measured["accuracy"]["top1"], measured["latency"]
    return f"{wording.percent(top1['value'], top1['n'])} at {wording.milliseconds(latency['median_ms'])}"


def _paint_accuracy(figure: Any, before: dict[str, Any], after: dict[str, Any]) -> None:
    axes = figure.add_axes((0.15, 0.16, 0.82, 0.74))
    _scale(axes, before, after)
    (x0, y0), (x1, y1) = (_point(axes, before, "baseline"), _point(axes, after, "result"))
    ends = axes.transData.transform([(x0, y0), (x1, y1)])
    if abs(ends[0] - ends[1]).max() > 24:  # otherwise an arrow does not fit between the marks
        arrow = {"arrowstyle": "-|>", "color": INK, "shrinkA": 8, "shrinkB": 8, "linewidth": 1.2}
        axes.annotate("", (x1, y1), (x0, y0), arrowprops=arrow)
    _label(axes, "baseline", before, above=y0 > y1)
    _label(axes, "result", after, above=y0 <= y1)


def _scale(axes: Any, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Latency starts at zero; accuracy spans the intervals, with room for labels."""
    from matplotlib.ticker import MaxNLocator

    top1 = [figures["accuracy"]["top1"] for figures in (before, after)]
    low, high = (100 * pick(part[end] for part in top1) for pick, end in ((min, "low"), (max, "high")))
    pad = 0.25 * max(high - low, 1.0)
    right = 1.06 * max(figures["latency"]["p95_ms"] for figures in (before, after))
    ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if 0 <= tick <= 100]
    axes.set_yticks(ticks, [f"{tick:g} %" for tick in ticks])
    times = MaxNLocator(5).tick_values(0, right)
    axes.set_xticks(times, [f"{time:g}" for time in times])
    axes.set_ylim(low - pad, high + pad)
    axes.set_xlim(0, right)
    axes.set_xlabel(
        f"latency in ms, {wording.threads(after['latency']['threads'])}: median, p5{wording.TO}p95", loc="right"
    )
    axes.set_title(f"top-1 on {top1[1]['n']} test images, 95 % interval", loc="left", fontsize=12, x=-0.183)


def _point(axes: Any, measured: dict[str, Any], kind: str) -> tuple[float, float]:
    """Draw a mark with its intervals, open for the baseline and filled for the result; return its position."""
    top1, latency = measured["accuracy"]["top1"], measured["latency"]
    x, y = latency["median_ms"], 100 * top1["value"]
    color = ACCENT if kind == "result" else MUTED
    axes.plot([latency["p5_ms"], latency["p95_ms"]], [y, y], color=color, linewidth=1.2)
    axes.plot([x, x], [100 * top1["low"], 100 * top1["high"]], color=color, linewidth=1.2)
    style = {"markerfacecolor": color if kind == "result" else "none", "markeredgecolor": color, "markeredgewidth": 2}
    axes.plot([x], [y], "o", markersize=9, **style)
    return x, y


def _label(axes: Any, name: str, measured: dict[str, Any], *, above: bool) -> None:
    """Write the label outside the interval: above the more accurate point and below the other."""
    top1, x = measured["accuracy"]["top1"], measured["latency"]["median_ms"]
    place = x / axes.get_xlim()[1]
    side = "left" if place < 0.35 else "right" if place > 0.65 else "center"
    axes.annotate(
        f"{name} {_place(measured)}",
        (x, 100 * top1["high" if above else "low"]),
        (0, 6 if above else -6),
        textcoords="offset points",
        ha=side,
        va="bottom" if above else "top",
        color=ACCENT if name == "result" else MUTED,
        weight="bold" if name == "result" else "normal",
    )


def passes_waterfall(report: dict[str, Any]) -> str | None:
    """MACs, parameters and validation accuracy of the loaded model and after each pass; None without passes."""
    if not report["passes"]:
        return None
    rows = pass_rows(report)
    described = "; ".join(
        f"{row.name}: MACs {row.macs.short}, parameters {row.parameters.short}, top-1 {row.top1.short}" for row in rows
    )
    label = f"The model after each pass, relative to the loaded model. {described}."
    height = HEAD + ROW * len(rows)
    return inline_svg("passes", label, (WIDTH, height), lambda figure: _paint_passes(figure, rows, height))


def _paint_passes(figure: Any, rows: list[PassRow], height: float) -> None:
    panels = [figure.add_axes((x, 0, 0.24, 1 - HEAD / height)) for x in (0.23, 0.495, 0.76)]
    for axes in panels:
        axes.set_axis_off()
        axes.set_ylim(len(rows), 0)
    for number, row in enumerate(rows):
        name = row.name if len(row.name) <= NAME else f"{row.name[: NAME - 1]}…"
        panels[0].annotate(name, (0, number + 0.36), (-0.23 * WIDTH, 0), textcoords="offset points", va="center")
    _bars(panels[0], "MACs", "of original", [row.macs for row in rows])
    _bars(panels[1], "parameters", "of original", [row.parameters for row in rows])
    _dots(panels[2], "top-1", "validation", [row.top1 for row in rows])


def _bars(axes: Any, title: str, subtitle: str, values: list[Value]) -> None:
    """A bar for what remains; the part that the pass removed is pale, a part that it added has the warning color."""
    axes.set_xlim(0, max(1.0, *(value.share for value in values)))
    _head(axes, title, subtitle)
    before = values[0]
    for number, value in enumerate(values):
        kept, removed = min(before.share, value.share), max(before.share, value.share)
        axes.barh(number + 0.72, removed - kept, 0.22, kept, color=WORSE if value.worse else FAINT)
        axes.barh(number + 0.72, kept, 0.22, color=ACCENT)
        _figure(axes, number, value)
        before = value


def _dots(axes: Any, title: str, subtitle: str, values: list[Value]) -> None:
    """A dot for the accuracy, with a line from the accuracy before the pass."""
    _head(axes, title, subtitle)
    low, high = min(value.share for value in values), max(value.share for value in values)
    slack = max(LEAST_SPAN - (high - low), 0) / 2
    low, high = low - slack, high + slack
    margin = 0.06 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    before = values[0]
    for number, value in enumerate(values):
        color = WORSE if value.worse else ACCENT
        axes.plot([low - margin, high + margin], [number + 0.72] * 2, color=FAINT, linewidth=0.8)
        axes.plot([before.share, value.share], [number + 0.72] * 2, color=color, linewidth=2.5)
        axes.plot([value.share], [number + 0.72], "o", color=color, markersize=7)
        _figure(axes, number, value)
        before = value


def _head(axes: Any, title: str, subtitle: str) -> None:
    for text, height, color in ((title, 24, INK), (subtitle, 10, MUTED)):
        axes.annotate(text, (0, 1), (0, height), "axes fraction", "offset points", va="center", color=color)


def _figure(axes: Any, number: int, value: Value) -> None:
    """Write the number above its bar, and 'worse' in addition to the color."""
    start = (axes.get_xlim()[0], number + 0.36)
    axes.annotate(value.short, start, va="center")
    if value.worse:
        end = (axes.get_xlim()[1], number + 0.36)
        axes.annotate("worse", end, ha="right", va="center", color=WORSE, fontsize=11)
