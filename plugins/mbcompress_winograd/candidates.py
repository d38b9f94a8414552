"""Ways to compute one layer, each timed beside the others and compared with double precision."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, fx
from torch.nn import functional

from .operators import operator
from .reference import APPLIED, pack
from .tiles import ACTIVATIONS, TILES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.fx import GraphModule

    from .graph import Layer

Call = Callable[[Tensor], Tensor]

EAGER, ONEDNN = "eager", "onednn"
ROUNDS, ROUND_MS, LEAST_CALLS = 61, 0.3, 3  # short rounds, of which other processes disturb few
ONEDNNS = {
    "none": ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
    "hardswish": ("hardswish", []),
}


@dataclass(frozen=True)
class Timed:
    """A way to compute a layer, as it was measured.

    Attributes:
        microseconds: median over the rounds.
        speedup: median over the rounds of the original's time over this one's.
        error: largest difference from double precision, over the largest value there.
    """

    name: str
    microseconds: float
    speedup: float
    error: float


def inputs_of(graph: GraphModule, layers: Sequence[Layer], images: Tensor) -> dict[str, Tensor]:
    """What each layer is given for these images: (N, C, H, W), channels_last."""
    wanted = {layer.nodes[0]: layer.name for layer in layers}
    found: dict[str, Tensor] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            if n.name in wanted:
                value = self.env[n.all_input_nodes[0]]
                found[wanted[n.name]] = value.clone(memory_format=torch.channels_last)
            return super().run_node(n)

    with torch.no_grad():
        Recorder(graph).run(images)
    return found


def measure(layer: Layer, x: Tensor, tiles: Sequence[str]) -> list[Timed]:
    """The original first, by the faster of torch's own ways, then every tile.

    Args:
        x: (N, C, H, W) float32, channels_last: what the layer is given.
        tiles: names of tiles that the layer's stride allows.
    """
    with torch.inference_mode():
        calls = originals(layer, x)
        calls |= {name: _kernel(layer, name) for name in tiles}
        errors = _errors(layer, x, {name: call(x) for name, call in calls.items()})
        times = _interleaved(calls, x)
    medians = {name: float(np.median(each)) for name, each in times.items()}
    original = min((name for name in calls if name in (EAGER, ONEDNN)), key=medians.__getitem__)
    return [
        Timed(name, 1e6 * medians[name], float(np.median(times[original] / times[name])), errors[name])
        for name in (original, *(name for name in calls if name not in (EAGER, ONEDNN)))
    ]


def originals(layer: Layer, x: Tensor) -> dict[str, Call]:
    """As eager torch computes it, and as Inductor has oneDNN compute it, with the activation in one call.

    Args:
        x: of the shape that it will be called with.
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
        name, scalars = ONEDNNS[layer.activation]
        arguments = (packed, layer.bias, pads, pair, (1, 1), channels, name, scalars, "")
        calls[ONEDNN] = lambda x: torch.ops.mkldnn._convolution_pointwise.default(x, *arguments)
    return calls


def _kernel(layer: Layer, tile: str) -> Call:
    packed, compute = pack(layer.weight, TILES[tile]), operator()
    activation = ACTIVATIONS.index(layer.activation)
    return lambda x: compute(x, packed, layer.bias, layer.stride, activation)


def _errors(layer: Layer, x: Tensor, answers: Mapping[str, Tensor]) -> dict[str, float]:
    weight, bias = layer.weight.double(), layer.bias.double()
    y = functional.conv2d(x.double(), weight, bias, layer.stride, padding=1, groups=layer.channels)
    exact = APPLIED[layer.activation](y)
    scale = max(float(exact.abs().max()), torch.finfo(torch.float32).tiny)
    return {name: float((answer - exact).abs().max()) / scale for name, answer in answers.items()}


def _interleaved(calls: Mapping[str, Call], x: Tensor) -> dict[str, np.ndarray]:
    """Seconds of a call, of each round; every other round in reverse order."""
    counts = {}
    for name, call in calls.items():
        call(x)
        counts[name] = max(LEAST_CALLS, int(ROUND_MS * 1e-3 / max(_seconds(call, x, LEAST_CALLS), 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(ROUNDS):
        for name in list(calls) if number % 2 == 0 else reversed(list(calls)):
            times[name].append(_seconds(calls[name], x, counts[name]))
    return {name: np.asarray(each) for name, each in times.items()}


def _seconds(call: Call, x: Tensor, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call(x)
    return (time.perf_counter() - start) / count
