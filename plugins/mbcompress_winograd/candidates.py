"""Time the implementations of a layer in interleaved rounds, and compare them with double precision."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mbcompress.graph import run_with_hook
from mbcompress.measure import time_interleaved

from .operators import operator
from .reference import APPLIED, pack
from .tiles import ACTIVATIONS, TILES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.fx import GraphModule, Node

    from .graph import DepthwiseLayer

Call = Callable[[Tensor], Tensor]

EAGER, ONEDNN = "eager", "onednn"
ROUNDS, ROUND_MS, LEAST_CALLS = 61, 0.3, 3  # short rounds, so other processes disturb only a few
ONEDNN_ACTIVATIONS = {
    "none": ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
    "hardswish": ("hardswish", []),
}


@dataclass(frozen=True)
class Timing:
    """Time and error of one implementation.

    Attributes:
        microseconds: median over the rounds.
        speedup: time of the original / time of this one, median over the rounds.
        error: largest difference from double precision, relative to the largest value.
    """

    name: str
    microseconds: float
    speedup: float
    error: float


def record_inputs(graph: GraphModule, layers: Sequence[DepthwiseLayer], images: Tensor) -> dict[str, Tensor]:
    """Return the input of each layer for these images, (N, C, H, W) in channels_last, by layer name."""
    names = {layer.nodes[0]: layer.name for layer in layers}
    inputs: dict[str, Tensor] = {}

    def record(node: Node, args: tuple[Tensor, ...], _: object) -> None:
        inputs[names[node.name]] = args[0].clone(memory_format=torch.channels_last)

    run_with_hook(graph, images, [node for node in graph.graph.nodes if node.name in names], record)
    return inputs


def measure(layer: DepthwiseLayer, x: Tensor, tiles: Sequence[str]) -> list[Timing]:
    """Measure the original, with the faster of torch's implementations, and every tile.

    Args:
        x: input of the layer, (N, C, H, W) float32, channels_last.
        tiles: names of tiles that the layer's stride allows.
    """
    with torch.inference_mode():
        originals = original_calls(layer, x)
        calls = originals | {name: _kernel(layer, name) for name in tiles}
        errors = _errors(layer, x, {name: call(x) for name, call in calls.items()})
        timed = time_interleaved([_Timeable(call, x) for call in calls.values()], range(ROUNDS), ROUND_MS)
    times = dict(zip(calls, timed, strict=True))
    medians = {name: 1e3 * float(np.median(its.medians)) for name, its in times.items()}
    original = min(originals, key=medians.__getitem__)
    return [
        Timing(name, medians[name], float(np.median(times[original].over(times[name]))), errors[name])
        for name in (original, *tiles)
    ]


def original_calls(layer: DepthwiseLayer, x: Tensor) -> dict[str, Call]:
    """Return torch's implementations of the layer: eager, and oneDNN with fused activation, as Inductor calls it.

    Args:
        x: has the shape of later inputs.
    """
    stride, channels = layer.stride, layer.channels
    weight = layer.weight.contiguous(memory_format=torch.channels_last)
    activate = APPLIED[layer.activation]

    def eager(x: Tensor) -> Tensor:
        y = functional.conv2d(x, weight, layer.bias, stride, padding=1, groups=channels)
        return y if layer.activation == "none" else activate(y)

    calls: dict[str, Call] = {EAGER: eager}
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        pair, pads = (stride, stride), (1, 1)
        packed = torch.ops.mkldnn._reorder_convolution_weight(weight, pads, pair, (1, 1), channels, list(x.shape))
        name, scalars = ONEDNN_ACTIVATIONS[layer.activation]
        arguments = (packed, layer.bias, pads, pair, (1, 1), channels, name, scalars, "")
        calls[ONEDNN] = lambda x: torch.ops.mkldnn._convolution_pointwise.default(x, *arguments)
    return calls


def _kernel(layer: DepthwiseLayer, tile: str) -> Call:
    packed, compute = pack(layer.weight, TILES[tile]), operator()
    activation = ACTIVATIONS.index(layer.activation)
    return lambda x: compute(x, packed, layer.bias, layer.stride, activation)


def _errors(layer: DepthwiseLayer, x: Tensor, outputs: Mapping[str, Tensor]) -> dict[str, float]:
    weight, bias = layer.weight.double(), layer.bias.double()
    y = functional.conv2d(x.double(), weight, bias, layer.stride, padding=1, groups=layer.channels)
    exact = APPLIED[layer.activation](y)
    scale = max(float(exact.abs().max()), torch.finfo(torch.float32).tiny)
    return {name: float((output - exact).abs().max()) / scale for name, output in outputs.items()}


class _Timeable:
    """Adapter for `time_interleaved`: a round is one run of many calls, because single calls are too short to time."""

    def __init__(self, call: Call, x: Tensor) -> None:
        self._call, self._x = call, x
        call(x)
        self._once_ms = self._mean_ms(LEAST_CALLS)

    def time(self, duration_ms: float) -> list[float]:
        """Mean milliseconds of as many calls as fit into `duration_ms`."""
        return [self._mean_ms(max(LEAST_CALLS, int(duration_ms / max(self._once_ms, 1e-6))))]

    def _mean_ms(self, count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            self._call(self._x)
        return 1e3 * (time.perf_counter() - start) / count
