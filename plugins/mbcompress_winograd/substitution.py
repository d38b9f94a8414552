"""The pass `winograd`: measure layers, decide, substitute, and check speed and accuracy of the whole model."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from mbcompress import MbcompressError
from mbcompress.graph import ExportedGraph, export_graph
from mbcompress.measure import ExportBenchmark, processor

from .candidates import measure, record_inputs
from .decisions import ORIGINAL, Candidate, Decision, Decisions, decide, read_decisions
from .graph import find_depthwise, replace_depthwise
from .operators import register
from .tiles import TILES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn
    from torch.fx import GraphModule

    from mbcompress import Context

    from . import Winograd
    from .candidates import Timing
    from .graph import DepthwiseLayer

LEAST_SPEEDUP = 1.05
"""Minimum speedup of a kernel, as the median of paired ratios."""


def substitute(model: nn.Module, options: Winograd, context: Context) -> nn.Module:
    """Apply the pass.

    Raises:
        MbcompressError: the model is not float32 on the CPU, or torch.export cannot capture it.
    """
    _check(model, context)
    status = register()
    graph = export_graph(model, context.example(2), "winograd")
    layers, ineligible = find_depthwise(graph)
    if not layers:
        raise MbcompressError(
            f"winograd: no depthwise 3x3 layer can be replaced: {'; '.join(ineligible) or 'there is none'}"
        )
    if not status.compiled:
        context.progress.say(f"winograd: no compiled kernel ({status.reason}); using the slow Python reference")
    with _threads(options.threads):
        decisions = context.process_group.broadcast_object(lambda: _decide(graph, layers, ineligible, options, context))
    substituted = ExportedGraph(replace_depthwise(graph, decisions.tiles, layers)).eval()
    if options.mode == "auto" and decisions.tiles:
        decisions = _check_network(decisions, substituted, model, options, context)
    _report(decisions, model, substituted, options, context)
    if options.mode == "report":
        for line in decisions.lines():
            context.progress.say(line)
    return substituted if decisions.tiles and options.mode != "report" else model


def _check(model: nn.Module, context: Context) -> None:
    """Reject devices other than the CPU, and half precision, where transforms have errors of up to 19 %."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise MbcompressError(
                f"winograd: {name} is {dtype}; Winograd transforms in half precision have errors of up to 19 % "
                "(F(4x4,3x3) in bfloat16); convert the model with .float() first"
            )
    if context.device.type != "cpu":
        raise MbcompressError(f"winograd: its kernels are for the CPU, got device {str(context.device)!r}")


def _decide(
    graph: GraphModule, layers: Sequence[DepthwiseLayer], ineligible: Sequence[str], options: Winograd, context: Context
) -> Decisions:
    status = register()
    kernel = status.level or status.reason
    machine = {"cpu": processor().model, "kernel": kernel, "threads": options.threads, "batch": options.batch}
    decided, notes = _earlier(layers, options, machine)
    if decided is None:
        inputs = record_inputs(graph, layers, _images(context, options.batch))
        progress = context.progress.track(layers, "winograd", len(layers))
        decided = tuple(_decide_layer(layer, inputs[layer.name], options) for layer in progress)
    return Decisions(**machine, schema=1, layers=decided, others=tuple(ineligible), notes=notes)


def _earlier(
    layers: Sequence[DepthwiseLayer], options: Winograd, machine: dict[str, object]
) -> tuple[tuple[Decision, ...] | None, tuple[str, ...]]:
    """The decisions of an earlier run if they apply to this machine and these layers, else None; and notes."""
    if options.decisions is None:
        return None, ()
    earlier = read_decisions(options.decisions)
    for key, value in machine.items():
        if (before := getattr(earlier, key)) != value:
            return None, (f"decisions measured again: {key} was {before!r} and is {value!r}",)
    shapes = [(layer.name, layer.channels, *layer.size, layer.stride, layer.activation) for layer in layers]
    if shapes != [(d.layer, d.channels, d.height, d.width, d.stride, d.activation) for d in earlier.layers]:
        return None, ("decisions measured again: the layers differ",)
    pairs = [(decision, _tiles(layer, options)) for layer, decision in zip(layers, earlier.layers, strict=True)]
    if any(set(tiles) - {candidate.name for candidate in decision.candidates} for decision, tiles in pairs):
        return None, ("decisions measured again: the earlier run did not measure all kernels of 'tile'",)
    decided = []
    for decision, tiles in pairs:
        original, *kernels = decision.candidates
        candidates = [original, *(candidate for candidate in kernels if candidate.name in tiles)]
        decided.append(decision.model_copy(update={"chosen": _choose(candidates, options)}))
    return tuple(decided), ("using the measurements of an earlier run",)


def _decide_layer(layer: DepthwiseLayer, x: Tensor, options: Winograd) -> Decision:
    timings = measure(layer, x, _tiles(layer, options))
    return decide(layer, timings, _choose(timings, options))


def _tiles(layer: DepthwiseLayer, options: Winograd) -> list[str]:
    """Names of the kernels to try; only the direct kernel supports stride 2."""
    tiles = [name for name, tile in TILES.items() if tile.kernel] if options.tile == "auto" else [str(options.tile)]
    return ["direct"] if layer.stride == 2 else tiles


def _choose(candidates: Sequence[Timing | Candidate], options: Winograd) -> str:
    """The fastest acceptable kernel, or the original, which is the first candidate."""
    kernels = candidates[1:]
    if options.mode != "force":
        kernels = [k for k in kernels if k.speedup >= LEAST_SPEEDUP and k.error <= options.tolerance]
    return min(kernels, key=lambda kernel: kernel.microseconds).name if kernels else ORIGINAL


def _images(context: Context, batch: int) -> Tensor:
    """`batch` calibration images, repeated if there are fewer."""
    images = next(context.calibration_batches(batch))
    return images.repeat(-(-batch // len(images)), 1, 1, 1)[:batch]


def _check_network(
    decisions: Decisions, substituted: nn.Module, model: nn.Module, options: Winograd, context: Context
) -> Decisions:
    """Keep all original layers if the whole model is not faster, or if its logits differ."""
    error = _logits_error(substituted, model, context)
    network: dict[str, float] = {}
    if context.runtimes:
        with context.progress.busy("winograd: time the whole model"), ExportBenchmark(context) as benchmark:
            ratios = benchmark.speedup(substituted, model, options.threads, options.batch)
        network = {f"p{share}": float(np.percentile(ratios, share)) for share in (5, 50, 95)}
    notes = []
    if network and network["p50"] <= 1:
        notes.append(f"nothing is substituted: the whole model would be {network['p50']:.2f} times as fast")
    if error > options.tolerance:
        notes.append(f"nothing is substituted: logits would differ by {error:.1e}")
    layers = decisions.layers
    if notes:
        layers = tuple(layer.model_copy(update={"chosen": ORIGINAL}) for layer in layers)
    return decisions.model_copy(update={"network": network, "layers": layers, "notes": (*decisions.notes, *notes)})


def _logits_error(substituted: nn.Module, model: nn.Module, context: Context) -> float:
    """Largest difference of the logits relative to the largest logit, on calibration images."""
    images = _images(context, min(64, len(context.data.calibration)))
    with torch.inference_mode():
        before, after = model(images), substituted(images)
    return float((before - after).abs().max() / before.abs().max())


def _report(
    decisions: Decisions, model: nn.Module, substituted: nn.Module, options: Winograd, context: Context
) -> None:
    layers = decisions.layers
    before = sum(layer.candidates[0].microseconds for layer in layers)
    after = sum(layer.best.microseconds for layer in layers)
    context.metrics["depthwise_layers"] = len(layers)
    key, verb = ("would_substitute", "would substitute") if options.mode == "report" else ("substituted", "substituted")
    context.metrics[key] = len(decisions.tiles)
    context.metrics["layers_us_before"] = before
    context.metrics["layers_us_after"] = after
    context.metrics["multiplications_saved"] = 1 - sum(layer.multiplications for layer in layers) / sum(
        9 * layer.outputs for layer in layers
    )
    context.metrics["largest_error"] = max(layer.best.error for layer in layers)
    context.metrics["logits_error"] = _logits_error(substituted, model, context) if decisions.tiles else 0.0
    if decisions.network:
        context.metrics["network_speedup"] = decisions.network["p50"]
    context.files["winograd.json"] = decisions.text()
    context.files["winograd.csv"] = decisions.table()
    context.files["winograd.svg"] = decisions.picture()
    for note in decisions.notes:
        context.progress.say(f"winograd: {note}")
    context.progress.say(
        f"winograd: {verb} {len(decisions.tiles)} of {len(layers)} depthwise 3x3 layers, "
        f"{before:.0f} us before, {after:.0f} us after; {len(decisions.others)} others are not eligible"
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
