"""The pass at work: measure, decide, replace, and let the whole network have the last word."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from mbcompress import MbcompressError
from mbcompress.graph.export import ExportedGraph, capture
from mbcompress.measure import ExportBenchmark, processor

from .candidates import inputs_of, measure
from .decisions import ORIGINAL, Candidate, Decision, Decisions, decision, read
from .graph import find, replace
from .operators import register
from .tiles import TILES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn
    from torch.fx import GraphModule

    from mbcompress import Context

    from . import Winograd
    from .candidates import Timed
    from .graph import Layer

LEAST_GAIN = 1.05
"""How many times faster a candidate must be, by the median of paired ratios."""


def substitute(model: nn.Module, step: Winograd, context: Context) -> nn.Module:
    """As `Winograd.apply`.

    Raises:
        MbcompressError: the model is not float32 on the CPU, or cannot be captured.
    """
    _check(model, context)
    status = register()
    graph = capture(model, context.example(2), "winograd")
    layers, others = find(graph)
    if not layers:
        raise MbcompressError(
            f"winograd: no depthwise 3x3 layer can be replaced: {'; '.join(others) or 'there is none'}"
        )
    if not status.compiled:
        context.progress.say(f"winograd: the compiled kernel is missing ({status.reason}); its reference is slow")
    with _threads(step.threads):
        found = context.process_group.broadcast_object(lambda: _decide(graph, layers, others, step, context))
    substituted = ExportedGraph(replace(graph, found.kept, layers)).eval()
    if step.mode == "auto" and found.kept:
        found = _last_word(found, substituted, model, step, context)
    _report(found, model, substituted, step, context)
    if step.mode == "report":
        for line in found.lines():
            context.progress.say(line)
    return substituted if found.kept and step.mode != "report" else model


def _check(model: nn.Module, context: Context) -> None:
    """Winograd's transforms lose up to a fifth of the largest value in half precision, so they are refused there."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise MbcompressError(
                f"winograd: {name} is {kind}, and transforms held in half precision lose up to 19 % (F(4x4,3x3) in "
                "bfloat16); convert the model with .float() first"
            )
    if context.device.type != "cpu":
        raise MbcompressError(f"winograd: its kernels are for the CPU, got device {str(context.device)!r}")


def _decide(
    graph: GraphModule, layers: Sequence[Layer], others: Sequence[str], step: Winograd, context: Context
) -> Decisions:
    status = register()
    kernel = status.level or status.reason
    machine = {"cpu": processor().model, "kernel": kernel, "threads": step.threads, "batch": step.batch}
    earlier, notes = _earlier(layers, step, machine)
    if earlier is None:
        inputs = inputs_of(graph, layers, _images(context, step.batch))
        progress = context.progress.track(layers, "winograd", len(layers))
        earlier = tuple(_decide_layer(layer, inputs[layer.name], step) for layer in progress)
    return Decisions(
        **machine,
        schema=1,
        layers=earlier,
        others=tuple(others),
        notes=notes,
    )


def _earlier(
    layers: Sequence[Layer], step: Winograd, machine: dict[str, object]
) -> tuple[tuple[Decision, ...] | None, tuple[str, ...]]:
    """Decisions of an earlier run, if they were taken for this machine and these layers; else why they do not count."""
    if step.decisions is None:
        return None, ()
    read_back = read(step.decisions)
    for what, here in machine.items():
        if (there := getattr(read_back, what)) != here:
            return None, (f"decisions measured anew: {what} was {there!r} and is {here!r}",)
    shapes = [(each.name, each.channels, *each.size, each.stride, each.activation) for each in layers]
    theirs = [(d.layer, d.channels, d.height, d.width, d.stride, d.activation) for d in read_back.layers]
    if shapes != theirs:
        return None, ("decisions measured anew: the layers are others",)
    pairs = list(zip(layers, read_back.layers, strict=True))
    if any(set(_tiles(layer, step)) - {each.name for each in earlier.candidates} for layer, earlier in pairs):
        return None, ("decisions measured anew: not all kernels that 'tile' asks for were measured",)
    chosen = [
        earlier.model_copy(update={"chosen": _choose(_among(earlier.candidates, _tiles(layer, step)), step)})
        for layer, earlier in pairs
    ]
    return tuple(chosen), ("measurements taken over from an earlier run",)


def _decide_layer(layer: Layer, x: Tensor, step: Winograd) -> Decision:
    measured = measure(layer, x, _tiles(layer, step))
    return decision(layer, measured, _choose(measured, step))


def _tiles(layer: Layer, step: Winograd) -> list[str]:
    """Names of the kernels to try; only the direct one has a stride."""
    tiles = [name for name, tile in TILES.items() if tile.kernel] if step.tile == "auto" else [str(step.tile)]
    return ["direct"] if layer.stride == 2 else tiles


def _among(candidates: Sequence[Candidate], tiles: Sequence[str]) -> list[Candidate]:
    """The original and those kernels."""
    return [candidates[0], *(each for each in candidates[1:] if each.name in tiles)]


def _choose(measured: Sequence[Timed | Candidate], step: Winograd) -> str:
    fastest = min(measured[1:], key=lambda each: each.microseconds)
    if step.mode == "force":
        return fastest.name
    allowed = [each for each in measured[1:] if each.speedup >= LEAST_GAIN and each.error <= step.tolerance]
    return min(allowed, key=lambda each: each.microseconds).name if allowed else ORIGINAL


def _images(context: Context, batch: int) -> Tensor:
    """Calibration images, as many as a call has."""
    images = next(context.calibration_batches(batch))
    return images.repeat(-(-batch // len(images)), 1, 1, 1)[:batch]


def _last_word(
    found: Decisions, substituted: nn.Module, model: nn.Module, step: Winograd, context: Context
) -> Decisions:
    """Nothing is substituted if the whole network is not faster by it, or answers differently."""
    error = _logits_error(substituted, model, context)
    network: dict[str, float] = {}
    if context.runtimes:
        with context.progress.busy("winograd: the whole network"), ExportBenchmark(context) as benchmark:
            ratios = benchmark.speedup(substituted, model, step.threads, step.batch)
        network = {f"p{share}": float(np.percentile(ratios, share)) for share in (5, 50, 95)}
    notes = []
    if network and network["p50"] <= 1:
        notes.append(f"nothing is substituted: the whole network is {network['p50']:.2f} times as fast with it")
    if error > step.tolerance:
        notes.append(f"nothing is substituted: logits would differ by {error:.1e}")
    layers = [each.model_copy(update={"chosen": ORIGINAL}) for each in found.layers] if notes else found.layers
    return found.model_copy(update={"network": network, "layers": tuple(layers), "notes": (*found.notes, *notes)})


def _logits_error(substituted: nn.Module, model: nn.Module, context: Context) -> float:
    """Largest difference of logits over the largest one, on calibration images."""
    images = _images(context, min(64, len(context.data.calibration)))
    with torch.inference_mode():
        before, after = model(images), substituted(images)
    return float((before - after).abs().max() / before.abs().max())


def _report(found: Decisions, model: nn.Module, substituted: nn.Module, step: Winograd, context: Context) -> None:
    before = sum(each.candidates[0].microseconds for each in found.layers)
    after = sum(each.best.microseconds for each in found.layers)
    context.metrics["depthwise_layers"] = len(found.layers)
    key, verb = ("would_keep", "would keep") if step.mode == "report" else ("kept", "kept")
    context.metrics[key] = len(found.kept)
    context.metrics["layers_us_before"] = before
    context.metrics["layers_us_after"] = after
    context.metrics["multiplications_saved"] = 1 - sum(each.multiplications for each in found.layers) / sum(
        9 * each.outputs for each in found.layers
    )
    context.metrics["largest_error"] = max(each.best.error for each in found.layers)
    context.metrics["logits_error"] = _logits_error(substituted, model, context) if found.kept else 0.0
    if found.network:
        context.metrics["network_speedup"] = found.network["p50"]
    context.files["winograd.json"] = found.text()
    context.files["winograd.csv"] = found.table()
    context.files["winograd.svg"] = found.picture()
    for note in found.notes:
        context.progress.say(f"winograd: {note}")
    context.progress.say(
        f"winograd: {verb} {len(found.kept)} of {len(found.layers)} depthwise 3x3 layers, "
        f"{before:.0f} us before, {after:.0f} us after; {len(found.others)} others are not eligible"
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
