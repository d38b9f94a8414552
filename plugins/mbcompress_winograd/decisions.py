"""The decision for each layer, and the machine that it applies to."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from mbcompress import MbcompressError, Options
from mbcompress.errors import brief, first_line
from mbcompress.report import ACCENT, FAINT, inline_svg

from .tiles import TILES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .candidates import Timing
    from .graph import DepthwiseLayer

ORIGINAL = "original"


class Candidate(Options):
    """One implementation of a layer; the first of each layer is the original, by the faster of eager and oneDNN."""

    name: str = Field(description="eager, onednn or a tile.")
    microseconds: float = Field(description="Median.")
    speedup: float = Field(description="Median of the paired ratios: time of the original / time of this one.")
    error: float = Field(description="Largest difference from double precision, relative to the largest value.")


class Decision(Options):
    """One layer."""

    layer: str = Field(description="Name in the model.")
    channels: int = Field(description="Number of input and output channels.")
    height: int = Field(description="Height of the input.")
    width: int = Field(description="Width of the input.")
    stride: int = Field(description="1 or 2.")
    activation: str = Field(description="The fused activation.")
    candidates: tuple[Candidate, ...] = Field(description="The measured implementations.")
    chosen: str = Field(description="A tile, or 'original'.")

    @property
    def best(self) -> Candidate:
        """The chosen candidate."""
        return next((candidate for candidate in self.candidates if candidate.name == self.chosen), self.candidates[0])

    @property
    def outputs(self) -> int:
        """Output values per image."""
        height, width = ((length - 1) // self.stride + 1 for length in (self.height, self.width))
        return self.channels * height * width

    @property
    def multiplications(self) -> float:
        """Multiplications per image, including borders."""
        return self.outputs * (9 if self.chosen == ORIGINAL else TILES[self.chosen].multiplications)


class Decisions(Options):
    """winograd.json: every eligible layer, on one machine."""

    version: Literal[1] = Field(default=1, alias="schema", description="Version of this document.")
    cpu: str = Field(description="CPU model.")
    threads: int = Field(description="Number of threads of the measurement.")
    batch: int = Field(description="Batch size of the measurement.")
    kernel: str = Field(description="Instruction set of the kernels, or why they were not available.")
    layers: tuple[Decision, ...] = Field(description="Eligible layers, in order.")
    others: tuple[str, ...] = Field(description="Grouped convolutions that are not eligible: 'name (reason)'.")
    network: dict[str, float] = Field(default={}, description="Speedup of the whole model: p5, p50, p95.")
    notes: tuple[str, ...] = Field(default=(), description="Notes on how the decisions were made.")

    @property
    def tiles(self) -> dict[str, str]:
        """Name of each substituted layer -> name of its tile."""
        return {layer.layer: layer.chosen for layer in self.layers if layer.chosen != ORIGINAL}

    def text(self) -> str:
        """Return the JSON document."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=1) + "\n"

    def table(self) -> str:
        """Return all candidates as CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        head = ["layer", "channels", "height", "width", "stride", "activation", "candidate", "microseconds", "speedup"]
        writer.writerow([*head, "multiplications", "error", "chosen"])
        for layer in self.layers:
            shape = [layer.layer, layer.channels, layer.height, layer.width, layer.stride, layer.activation]
            for candidate in layer.candidates:
                tile = TILES.get(candidate.name)
                count = round(layer.outputs * (tile.multiplications if tile else 9))
                figures = [f"{candidate.microseconds:.2f}", f"{candidate.speedup:.3f}", count, f"{candidate.error:.1e}"]
                writer.writerow([*shape, candidate.name, *figures, "yes" if candidate is layer.best else ""])
        return text.getvalue()

    def lines(self) -> list[str]:
        """Return one line per layer."""
        lines = []
        for layer in self.layers:
            shape = f"{layer.channels}x{layer.height}x{layer.width}/{layer.stride}"
            times = ", ".join(f"{c.name} {c.microseconds:.1f} us" for c in layer.candidates)
            lines.append(f"{layer.layer} {shape}: {times}; {layer.chosen} ({layer.best.speedup:.2f}x)")
        return [*lines, *(f"not eligible: {layer}" for layer in self.others)]

    def picture(self) -> str:
        """Return a chart of each layer's time before and after substitution, as SVG."""
        size = (680, 24 * len(self.layers) + 90)

        def paint(figure: Any) -> None:
            axes = figure.subplots()
            places = range(len(self.layers))
            before = [layer.candidates[0].microseconds for layer in self.layers]
            axes.barh(places, before, color=FAINT, height=0.8, label="before")
            axes.barh(
                places, [layer.best.microseconds for layer in self.layers], color=ACCENT, height=0.4, label="after"
            )
            axes.set_yticks(places, [f"{layer.layer} ({layer.chosen})" for layer in self.layers], fontsize=9)
            axes.invert_yaxis()
            axes.set_xlabel(f"microseconds, {self.threads} thread{'s' if self.threads > 1 else ''}, batch {self.batch}")
            axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
            figure.tight_layout(pad=0.6)

        return inline_svg("winograd", "Time of each depthwise layer before and after substitution", size, paint)


def decide(layer: DepthwiseLayer, timings: Sequence[Timing], chosen: str) -> Decision:
    """Return the decision for a layer with its measurements."""
    return Decision(
        layer=layer.name,
        channels=layer.channels,
        height=layer.size[0],
        width=layer.size[1],
        stride=layer.stride,
        activation=layer.activation,
        candidates=tuple(Candidate(**vars(timing)) for timing in timings),
        chosen=chosen,
    )


def read_decisions(path: Path) -> Decisions:
    """Read the winograd.json of an earlier run.

    Raises:
        MbcompressError: the file cannot be read, or is not a winograd.json.
    """
    try:
        return Decisions.model_validate_json(path.read_bytes())
    except OSError as error:
        raise MbcompressError(f"winograd: decisions: {path} cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        problem = brief(first_line(error))
        raise MbcompressError(f"winograd: decisions: {path} is not a winograd.json: {problem}") from None
