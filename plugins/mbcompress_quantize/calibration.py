"""Calibration with neural-compressor: its observers, `prepare` and `autotune`, with our annotation.

neural-compressor uses torchao's PT2E flow with the x86 quantizer, which leaves most of MobileNetV3's convolutions in
float, and its conversion keeps fp32 weights. We replace both through its extension points: a subclass of its quantizer
annotates with `quantizer.IntegerQuantizer` and converts with folded weights. It is registered as a separate algorithm,
so `prepare` and `autotune` work unchanged.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.fx import GraphModule

from mbcompress.graph import ExportedGraph, environment_variables, quiet_libraries

from .pt2e import MovingAverageMinMaxObserver, ObserverBase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import ModuleType

    from torch import Tensor, nn

    from mbcompress.training import Score

    from .scheme import Scheme

Ranges = dict[str, tuple[float, int]]
"""Name of an activation's observer -> scale and zero point."""


def load_compressor() -> ModuleType:
    """Import neural-compressor without its log output.

    It reads its log level from LOGLEVEL, and writes log files to the home directory unless LOG_LEVEL_INC is 6.
    """
    with quiet_libraries(logging.CRITICAL), environment_variables(LOGLEVEL="CRITICAL", LOG_LEVEL_INC="6"):
        from . import compressor
    return compressor


@dataclass(frozen=True)
class Calibrated:
    """A scheme with its activation ranges.

    Attributes:
        ranges: of all activations.
        unsupported: operators without int8 support, which stay in float, each with the reason.
    """

    scheme: Scheme
    ranges: Ranges
    unsupported: list[str]


def calibrate(graph: GraphModule, scheme: Scheme, batches: Iterable[Tensor]) -> Calibrated:
    """Observe the activations on calibration batches.

    Args:
        graph: from `graph.canonical_graph`; not changed.
        batches: normalized images, (N, C, H, W) float32; all batches have the same weight.
    """
    compressor = load_compressor()
    with quiet_libraries(logging.CRITICAL):
        prepared = compressor.prepare_graph(graph, scheme)
        _observe(prepared, batches)
        return Calibrated(scheme, _ranges(prepared), prepared.meta[compressor.UNSUPPORTED])


def tune(
    graph: GraphModule,
    schemes: Sequence[Scheme],
    batches: Sequence[Tensor],
    score: Callable[[nn.Module], Score],
    float_top1: float,
    target_top1: float,
) -> list[tuple[Calibrated, Score]]:
    """Try schemes in order with neural-compressor until one reaches the target; return the trials with their scores.

    neural-compressor's own choice is not used: it returns a model even if none reaches the target, and it compares
    accuracy only.

    Args:
        graph: from `graph.canonical_graph`; not changed.
        score: scores a model on the validation split.
        float_top1: accuracy of the float graph, 0 to 1.
        target_top1: accuracy, 0 to 1, at which the search stops; above 1 tries all schemes.
    """
    scores: list[Score] = []
    tried: list[Calibrated] = []
    compressor = load_compressor()

    def evaluate(model: nn.Module) -> float:
        scores.append(score(ExportedGraph(model) if isinstance(model, GraphModule) else model))
        return 1 + scores[-1].top1  # neural-compressor divides by the baseline's accuracy, which may be 0

    def calibrate(prepared: GraphModule) -> None:
        _observe(prepared, batches)
        meta = prepared.meta
        tried.append(Calibrated(meta[compressor.SCHEME], _ranges(prepared), meta[compressor.UNSUPPORTED]))

    with quiet_libraries(logging.CRITICAL):
        compressor.try_schemes(graph, schemes, 1 - (1 + target_top1) / (1 + float_top1), evaluate, calibrate)
    return list(zip(tried, scores[1:], strict=False))  # the first score is that of the float graph


def _observe(prepared: GraphModule, batches: Iterable[Tensor]) -> None:
    with torch.no_grad():
        for number, images in enumerate(batches, start=1):
            for module in prepared.modules():
                if isinstance(module, MovingAverageMinMaxObserver):
                    module.averaging_constant = 1 / number  # a running mean over all batches
            prepared(images)


def _ranges(prepared: GraphModule) -> Ranges:
    ranges: Ranges = {}
    for name, module in prepared.named_children():
        if isinstance(module, ObserverBase) and module.qscheme in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            scale, zero_point = module.calculate_qparams()
            ranges[name] = float(scale), int(zero_point)
    return ranges
