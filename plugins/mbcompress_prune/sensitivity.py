"""Sensitivity analysis: accuracy with one group of channels pruned at a time.

As in Li et al., "Pruning Filters for Efficient ConvNets", 2017, section 3.2, with updated BatchNorm statistics.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from mbcompress.graph import copy_model
from mbcompress.report import ACCENT, FAINT, MUTED, inline_svg
from mbcompress.training import evaluate, update_bn

from .channels import LARGEST_RATIO

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from torch import nn

    from mbcompress import Context

    from .channels import ChannelPruner

COLUMNS, CELL = 4, (170, 92)
STATISTICS_IMAGES = 512


@dataclass(frozen=True)
class Curve:
    """Validation accuracy over the pruning ratio of one group.

    Attributes:
        layers: the layers of the group; the first names it.
        channels: number of output channels.
        ratios: pruning ratios, starting with 0.
        top1: accuracy, 0 to 1, at each ratio.
    """

    layers: tuple[str, ...]
    channels: int
    ratios: tuple[float, ...]
    top1: tuple[float, ...]

    def ratio_at(self, tolerance: float) -> float:
        """Return the largest pruning ratio with an accuracy drop of at most `tolerance`, by linear interpolation."""
        drops = [max(0.0, self.top1[0] - max(self.top1[index:])) for index in range(len(self.top1))]
        points = [*zip(self.ratios, drops, strict=True), (LARGEST_RATIO, max(1.0, drops[-1]))]
        found = 0.0
        for (ratio, drop), (next_ratio, next_drop) in pairwise(points):
            if next_drop <= tolerance:
                found = next_ratio
            elif drop <= tolerance:
                return ratio + (next_ratio - ratio) * (tolerance - drop) / (next_drop - drop)
        return found


@dataclass(frozen=True)
class Analysis:
    """The curves of a model."""

    curves: tuple[Curve, ...]
    images: int

    def ratios(self, amount: float) -> Mapping[str, float]:
        """Return the pruning ratio of every layer.

        Args:
            amount: from 0 to 1, the accuracy drop allowed for each group alone; from -1 to 0, scales down the ratios
                that cost no accuracy by 1 + amount, so -1 prunes nothing.
        """
        part, tolerance = 1 + min(amount, 0.0), max(amount, 0.0)
        return {layer: part * curve.ratio_at(tolerance) for curve in self.curves for layer in curve.layers}

    def table(self) -> str:
        """Return all points as CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["layer", "channels", "pruned", "top1", "images"])
        for curve in self.curves:
            for ratio, top1 in zip(curve.ratios, curve.top1, strict=True):
                writer.writerow([curve.layers[0], curve.channels, f"{ratio:g}", f"{top1:.4f}", self.images])
        return text.getvalue()

    def picture(self) -> str:
        """Return a chart with a small plot per group, most sensitive first, as SVG."""
        curves = sorted(self.curves, key=lambda curve: curve.ratio_at(0.02))
        rows = -(-len(curves) // COLUMNS)
        lowest = min(min(curve.top1) for curve in curves)
        size = (COLUMNS * CELL[0], rows * CELL[1] + 24)

        def paint(figure: Any) -> None:
            grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
            for axes in grid.flat[len(curves) :]:
                axes.set_visible(False)
            for axes, curve in zip(grid.flat, curves, strict=False):
                whole = 100 * curve.top1[0]
                axes.axhline(whole, color=FAINT, linewidth=0.8)
                axes.plot(
                    [100 * r for r in curve.ratios],
                    [100 * t for t in curve.top1],
                    color=ACCENT,
                    marker="o",
                    markersize=3,
                )
                axes.set_title(f"{_short(curve.layers[0])} ({curve.channels})", fontsize=9, color=MUTED, pad=3)
                axes.set_ylim(100 * lowest - 3, min(102, whole + 5))
                axes.tick_params(labelsize=8)
            figure.supxlabel("% of the group's channels pruned", fontsize=10)
            figure.supylabel(f"top-1, % of {self.images} validation images", fontsize=10)
            figure.tight_layout(pad=0.6)

        return inline_svg("sensitivity", "Accuracy over the ratio of pruned channels, by group", size, paint)


def _short(name: str) -> str:
    return name.removeprefix("features.")


def analyse(
    model: nn.Module,
    context: Context,
    pruner: ChannelPruner,
    groups: Mapping[str, Sequence[str]],
    ignored_layers: Collection[str],
    ratios: Sequence[float],
    images: int,
) -> Analysis:
    """Prune one group at a time with each of the ratios, and measure the validation accuracy.

    Args:
        groups: name of a group's first layer -> all its layers.
        ignored_layers: layers whose channels cannot be pruned.
        ratios: between 0 and 1, ascending.
        images: maximum number of validation images.
    """
    validation = context.data.validation.take(np.arange(min(images, len(context.data.validation))))
    normalization = context.data.normalization

    def top1(model: nn.Module) -> float:
        return evaluate(model, validation, normalization, context.device).top1

    settled, curves = copy_model(model), []
    update_bn(settled, context, STATISTICS_IMAGES)  # as for the pruned models
    whole = top1(settled)
    free = {root: layers for root, layers in groups.items() if not set(layers) & set(ignored_layers)}
    for root, layers in context.progress.track(free.items(), "sensitivity", len(free)):
        channels = _channels(model, root)
        points = [(0.0, whole)]
        for ratio in ratios:
            pruned = pruner.prune(model, context.example(), dict.fromkeys(layers, ratio), ignored_layers)
            gone = 1 - _channels(pruned, root) / channels  # differs from `ratio` by rounding
            if gone > points[-1][0]:
                update_bn(pruned, context, STATISTICS_IMAGES)
                points.append((gone, top1(pruned)))
        if len(points) > 1:
            curves.append(Curve(tuple(layers), channels, *map(tuple, zip(*points, strict=True))))
    return Analysis(tuple(curves), len(validation))


def _channels(model: nn.Module, name: str) -> int:
    return len(model.get_parameter(f"{name}.weight"))
