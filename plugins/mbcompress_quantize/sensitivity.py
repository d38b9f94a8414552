"""Per-layer quantization sensitivity: with one layer quantized, and with all layers but one quantized.

If only one layer is quantized, its weight, input and output are rounded. If only one layer stays in float, its weight
is exact, but its input and output are still rounded, because its neighbors read and write int8.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mbcompress.report import ACCENT, FAINT, MUTED, WORSE, inline_svg

from .layers import find_layers
from .pt2e import FakeQuantizeBase

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor

    from mbcompress import Context

    from .graph import FakeQuantized

ROW, MARGIN, WIDTH = 13, 64, 680
LARGEST_DB = 99.0
"""SQNR if rounding changes nothing."""


@dataclass(frozen=True)
class Effect:
    """The effect of quantizing some layers on the logits.

    Attributes:
        sqnr: signal-to-quantization-noise ratio in dB; higher is better.
        top1: accuracy, 0 to 1.
    """

    sqnr: float
    top1: float


@dataclass(frozen=True)
class Analysis:
    """The effect of each layer: `alone`, if only it is quantized; `without`, if all other layers are."""

    floating: Effect
    quantized: Effect
    alone: dict[str, Effect]
    without: dict[str, Effect]
    images: int

    def ranking(self) -> list[str]:
        """Return the layers sorted by the gain of leaving each in float, largest first."""
        return sorted(self.without, key=lambda name: -self.without[name].sqnr)

    def table(self) -> str:
        """Return all figures as CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["layer", "alone_sqnr_db", "alone_top1", "without_sqnr_db", "without_top1", "images"])
        writer.writerow(["float", "", f"{self.floating.top1:.4f}", "", "", self.images])
        writer.writerow(["int8", "", "", f"{self.quantized.sqnr:.2f}", f"{self.quantized.top1:.4f}", self.images])
        for name, alone in self.alone.items():
            without = self.without[name]
            figures = (f"{alone.sqnr:.2f}", f"{alone.top1:.4f}", f"{without.sqnr:.2f}", f"{without.top1:.4f}")
            writer.writerow([name, *figures, self.images])
        return text.getvalue()

    def picture(self) -> str:
        """Return a chart with a row per layer, in graph order, as SVG."""
        names = list(self.alone)
        size = (WIDTH, ROW * len(names) + MARGIN)
        rows = range(len(names))

        def paint(figure: Any) -> None:
            left, right = figure.subplots(1, 2, sharey=True)
            left.plot([self.alone[name].sqnr for name in names], rows, "o", color=ACCENT, markersize=4)
            left.set_xlabel("dB, only this layer in int8", fontsize=10)
            right.axvline(self.quantized.sqnr, color=FAINT, linewidth=1)
            gains = [self.without[name].sqnr for name in names]
            colors = [ACCENT if gain >= self.quantized.sqnr else WORSE for gain in gains]
            right.hlines(rows, self.quantized.sqnr, gains, colors=colors, linewidth=2)
            right.scatter(gains, rows, c=colors, s=14, zorder=3)
            right.set_xlabel("dB, all but this layer in int8", fontsize=10)
            left.set_yticks(list(rows), [name.removeprefix("features.") for name in names], fontsize=8, color=MUTED)
            left.set_ylim(len(names) - 0.5, -0.5)
            for axes in (left, right):
                axes.tick_params(axis="x", labelsize=8)
                axes.tick_params(axis="y", length=0)
                axes.grid(axis="x", color=FAINT, linewidth=0.4)
            figure.tight_layout(pad=0.6)

        label = "Signal-to-quantization-noise ratio of the logits, with one layer in int8 and with all but one"
        return inline_svg("quantization", label, size, paint)


def analyse(model: FakeQuantized, context: Context, images: int) -> Analysis:
    """Evaluate the model with each layer quantized alone, and with each left in float alone; `model` is restored.

    Args:
        images: maximum number of validation images.
    """
    validation = context.data.validation.take(np.arange(min(images, len(context.data.validation))))
    pixels = torch.from_numpy(context.data.normalization.apply(validation.pixels)).to(context.device)
    labels = torch.from_numpy(validation.labels).to(context.device)
    layers = find_layers(model.captured)
    switches = Switches(model)

    def logits() -> Tensor:
        with torch.no_grad():
            return torch.cat([model(part) for part in torch.split(pixels, 128)])

    switches.only(())
    exact = logits()

    def effect() -> Effect:
        answers = logits()
        return Effect(sqnr(exact, answers), float((answers.argmax(1) == labels).float().mean()))

    floating = effect()
    alone, without = {}, {}
    for name, layer in context.progress.track(layers.items(), "quantization, layer by layer", len(layers)):
        switches.only(layer.weights | layer.inputs | layer.outputs)
        alone[name] = effect()
        switches.all_but(layer.own)
        without[name] = effect()
    switches.all_but(())
    return Analysis(floating, effect(), alone, without, len(validation))


class Switches:
    """Turn the fake quantization modules of a model on and off by name."""

    def __init__(self, model: FakeQuantized) -> None:
        modules = model.eval().captured.named_children()
        self._modules = {name: module for name, module in modules if isinstance(module, FakeQuantizeBase)}

    def only(self, names: Collection[str]) -> None:
        """Turn `names` on and all others off."""
        for name, module in self._modules.items():
            module.enable_fake_quant(name in names)

    def all_but(self, names: Collection[str]) -> None:
        """Turn `names` off and all others on."""
        self.only(self._modules.keys() - set(names))


def sqnr(signal: Tensor, other: Tensor) -> float:
    """Signal-to-quantization-noise ratio in dB, at most 99."""
    noise = float((signal - other).square().sum())
    power = float(signal.square().sum())
    return min(LARGEST_DB, 10 * np.log10(power / noise)) if noise and power else LARGEST_DB
