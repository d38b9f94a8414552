"""Layers in which the sum of two products of a uint8 and an int8 number can exceed 16 bits.

x86 processors without VNNI multiply by `pmaddubsw`, which adds pairs of products with saturation at -32768 and 32767;
the file then computes something else than anywhere else. 255 * (w1 + w2) stays within if w1 + w2 is within -128..128,
which weights in -64..64 guarantee. Depthwise kernels of ONNX Runtime and OpenVINO widen to 32 bits before they add,
so layers with one input channel a group are safe.
"""

from __future__ import annotations

import csv
import io
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mbcompress.measure import CPUINFO, processor

from .layers import layers
from .quantizer import WEIGHT_LIMIT
from .rewrites import arguments

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import Tensor
    from torch.fx import GraphModule

    from mbcompress import Context

    from .options import ReduceRange
    from .scheme import Scheme

LARGEST, LEAST = 2**15 - 1, -(2**15)
LARGEST_ACTIVATION = 255
VNNI = {"avx512_vnni", "avx_vnni"}


@dataclass(frozen=True)
class PairSums:
    """The extreme sums of two products in a layer, whatever the image.

    Attributes:
        name: of the layer.
        least, largest: over all pairs of inputs that a kernel may add first, in units of both scales.
    """

    name: str
    least: int
    largest: int

    @property
    def saturates(self) -> bool:
        """Whether 16 bits do not hold them."""
        return self.least < LEAST or self.largest > LARGEST


def pair_sums(name: str, weight: Tensor, limit: int = WEIGHT_LIMIT) -> PairSums | None:
    """Extremes of a layer whose weight (C_out, C_in / groups, …) becomes int8 in -limit..limit; None if depthwise.

    Which products meet in a pair depends on the kernel, except in a 1x1 convolution or a linear layer, where they are
    those of neighbouring channels: there these pairs count, elsewhere any two weights of an output channel.
    """
    rows = weight.detach().flatten(1)
    if weight.shape[1] == 1:
        return None
    scales = rows.abs().amax(1, keepdim=True).clamp_min(2**-16) / limit
    integers = (rows / scales).round().to(torch.int64)
    if rows.shape[1] > weight.shape[1]:  # taller or wider than 1x1: the two largest and the two least of a row
        positive, negative = integers.clamp_min(0), integers.clamp_max(0)
        sums = positive.topk(2, dim=1).values.sum(1), negative.topk(2, dim=1, largest=False).values.sum(1)
    else:
        padded = torch.nn.functional.pad(integers, (0, integers.shape[1] % 2))
        pairs = padded.reshape(len(padded), -1, 2)  # (C_out, pairs, 2)
        sums = pairs.clamp_min(0).sum(2), pairs.clamp_max(0).sum(2)
    return PairSums(name, LARGEST_ACTIVATION * int(sums[1].min()), LARGEST_ACTIVATION * int(sums[0].max()))


def saturating(graph: GraphModule, spared: frozenset[str] = frozenset()) -> list[PairSums]:
    """Layers of a captured or prepared graph that can saturate with 8-bit weights, in order.

    Activation ranges say nothing against it: each is chosen so that its largest number becomes 255.

    Args:
        spared: layers that stay in float.
    """
    found = []
    for name, layer in layers(graph).items():
        weight = arguments(layer.nodes[0])[1]
        while weight.op == "call_module":  # an observer or a simulated rounding
            weight = weight.args[0]
        if weight.op == "get_attr" and name not in spared:
            sums = pair_sums(name, _value(graph, str(weight.target)))
            found += [sums] if sums is not None and sums.saturates else []
    return found


def table(found: Iterable[PairSums]) -> str:
    """The extremes as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["layer", "least_pair_sum", "largest_pair_sum", "least_of_16_bits", "largest_of_16_bits"])
    writer.writerows([each.name, each.least, each.largest, LEAST, LARGEST] for each in found)
    return text.getvalue()


def narrows(reduce_range: ReduceRange) -> bool:
    """Whether layers that can saturate get 7-bit weights; see the option."""
    return reduce_range == "always" or (reduce_range == "auto" and adds_in_16_bits())


def tell(graph: GraphModule, scheme: Scheme, context: Context, reduce_range: ReduceRange, label: str) -> None:
    """Report which layers of a graph can saturate, and say what that means where it matters.

    Args:
        graph: captured or prepared, with the weights that will be converted.
        scheme: names the layers that stay in float and those with 7-bit weights, which cannot.
    """
    found = saturating(graph, scheme.float_layers)
    narrow = scheme.narrow_layers - scheme.float_layers
    context.files["saturation.csv"] = table(found)
    context.metrics["saturating_layers"] = len(found)
    names = [each.name for each in found]
    groups = {"get 7-bit weights": [name for name in names if name in narrow]}
    context.metrics["narrow_layers"] = len(narrow)
    if adds_in_16_bits():
        groups["may compute something else on this processor"] = [name for name in names if name not in narrow]
    elif narrows(reduce_range):
        groups["have 8-bit weights"] = [name for name in names if name not in narrow]
    for what, which in groups.items():
        if which:
            context.progress.say(
                f"{label}: {len(which)} layers can exceed 16 bits where pairs of products are added without VNNI, "
                f"and {what}: {', '.join(which[:3])}{' …' if len(which) > 3 else ''}"
            )


def adds_in_16_bits(cpuinfo: Path = CPUINFO) -> bool:
    """Whether this machine is an x86 processor without VNNI, or one that does not tell."""
    if platform.machine().lower() not in ("x86_64", "amd64", "i686"):
        return False
    flags = processor(cpuinfo).flags
    return flags is None or not VNNI & flags


def _value(graph: GraphModule, target: str) -> Tensor:
    value: object = graph
    for part in target.split("."):
        value = getattr(value, part)
    assert isinstance(value, torch.Tensor)
    return value
