"""Find layers in which the sum of two uint8 x int8 products can exceed 16 bits.

x86 CPUs without VNNI use `pmaddubsw`, which adds pairs of products and saturates at -32768 and 32767, so the results
differ from those on other CPUs. 255 * (w1 + w2) fits into 16 bits if w1 + w2 is within -128..128, which weights in
-64..64 guarantee. The depthwise kernels of ONNX Runtime and OpenVINO accumulate in 32 bits, so layers with one input
channel per group are safe.
"""

from __future__ import annotations

import csv
import io
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mbcompress.graph import get_tensor, node_args
from mbcompress.measure import CPUINFO, processor

from .fake_quantize import WEIGHT_LIMIT
from .layers import find_layers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
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
    """The extreme sums of two products in a layer, for any input.

    Attributes:
        name: of the layer.
        least, largest: over all pairs of products that a kernel may add, as integers.
    """

    name: str
    least: int
    largest: int

    @property
    def saturates(self) -> bool:
        """Whether a sum exceeds 16 bits."""
        return self.least < LEAST or self.largest > LARGEST


def pair_sums(name: str, weight: Tensor, limit: int = WEIGHT_LIMIT) -> PairSums | None:
    """Return the extreme pair sums of a layer; None if it is depthwise.

    1x1 convolutions and linear layers add the products of neighboring channels. In other convolutions the pairs depend
    on the kernel, so any two weights of an output channel count as a pair.

    Args:
        weight: (C_out, C_in / groups, …).
        limit: largest integer weight.
    """
    rows = weight.detach().flatten(1)
    if weight.shape[1] == 1:
        return None
    scales = rows.abs().amax(1, keepdim=True).clamp_min(2**-16) / limit
    integers = (rows / scales).round().to(torch.int64)
    if rows.shape[1] > weight.shape[1]:  # larger than 1x1: the two largest and the two smallest weights of a row
        positive, negative = integers.clamp_min(0), integers.clamp_max(0)
        sums = positive.topk(2, dim=1).values.sum(1), negative.topk(2, dim=1, largest=False).values.sum(1)
    else:
        padded = torch.nn.functional.pad(integers, (0, integers.shape[1] % 2))
        pairs = padded.reshape(len(padded), -1, 2)  # (C_out, pairs, 2)
        sums = pairs.clamp_min(0).sum(2), pairs.clamp_max(0).sum(2)
    return PairSums(name, LARGEST_ACTIVATION * int(sums[1].min()), LARGEST_ACTIVATION * int(sums[0].max()))


def find_saturating(graph: GraphModule, ignored_layers: frozenset[str] = frozenset()) -> list[PairSums]:
    """Return the layers of a graph, prepared or not, that can saturate with 8-bit weights, in order.

    Activation ranges cannot rule out saturation: the upper end of each range maps to 255.

    Args:
        ignored_layers: layers that stay in float.
    """
    saturating = []
    for name, layer in find_layers(graph).items():
        weight = node_args(layer.nodes[0])[1]
        while weight.op == "call_module":  # an observer or a fake quantization
            weight = weight.args[0]
        if weight.op == "get_attr" and name not in ignored_layers:
            sums = pair_sums(name, get_tensor(graph, weight))
            saturating += [sums] if sums is not None and sums.saturates else []
    return saturating


def reduces_range(reduce_range: ReduceRange) -> bool:
    """Whether layers that can saturate get 7-bit weights; see the option."""
    return reduce_range == "always" or (reduce_range == "auto" and adds_in_16_bits())


def report_saturation(
    graph: GraphModule, scheme: Scheme, context: Context, reduce_range: ReduceRange, label: str
) -> None:
    """Report the layers that can saturate, and warn if the files are meant for CPUs without VNNI.

    Args:
        graph: prepared or not, with the final weights.
        scheme: has the layers that stay in float, and those with 7-bit weights, which cannot saturate.
    """
    saturating = find_saturating(graph, scheme.float_layers)
    reduced = scheme.reduce_range_layers - scheme.float_layers
    context.files["saturation.csv"] = _table(saturating)
    context.metrics["saturating_layers"] = len(saturating)
    context.metrics["reduce_range_layers"] = len(reduced)
    names = [sums.name for sums in saturating]
    full = [name for name in names if name not in reduced]
    _warn(context, label, "get 7-bit weights", [name for name in names if name in reduced])
    if adds_in_16_bits():
        _warn(context, label, "may give different results on this CPU", full)
    elif reduces_range(reduce_range):
        _warn(context, label, "have 8-bit weights", full)


def _warn(context: Context, label: str, consequence: str, names: Sequence[str]) -> None:
    if names:
        context.progress.say(
            f"{label}: {len(names)} layers can saturate 16-bit sums on CPUs without VNNI "
            f"and {consequence}: {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
        )


def _table(saturating: Iterable[PairSums]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["layer", "least_pair_sum", "largest_pair_sum", "least_of_16_bits", "largest_of_16_bits"])
    writer.writerows([sums.name, sums.least, sums.largest, LEAST, LARGEST] for sums in saturating)
    return text.getvalue()


def adds_in_16_bits(cpuinfo: Path = CPUINFO) -> bool:
    """Whether this machine has an x86 CPU without VNNI, or one with unknown flags."""
    if platform.machine().lower() not in ("x86_64", "amd64", "i686"):
        return False
    flags = processor(cpuinfo).flags
    return flags is None or not VNNI & flags
