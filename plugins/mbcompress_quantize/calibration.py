"""Activation ranges from images, by neural-compressor: its observers, its preparation and its trials, our annotation.

neural-compressor quantizes through torchao's PT2E flow with the x86 quantizer, which leaves half of MobileNetV3's
convolutions in float, and its conversion keeps fp32 weights. Both are replaced where it lets one: a subclass of its
quantizer annotates as `quantizer.IntegerQuantizer` does and converts with folded weights, and is registered as an
algorithm of its own, so that `prepare` and `autotune` run as they are.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.fx import GraphModule
from torchao.quantization.pt2e import MovingAverageMinMaxObserver, ObserverBase

from mbcompress.graph import export as exported
from mbcompress.graph.export import ExportedGraph
from mbcompress.graph.layout import copy_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor, nn

    from mbcompress.training import Score

    from .scheme import Scheme

Ranges = dict[str, tuple[float, int]]
"""Name of the module that observes an activation -> scale and zero point."""


@contextmanager
def quiet() -> Iterator[None]:
    """neural-compressor logs each of its steps."""
    os.environ.setdefault("LOG_LEVEL_INC", "6")  # without it, importing it makes a folder of logs in the user's home
    with exported.quiet(logging.CRITICAL):
        yield


@dataclass(frozen=True)
class Calibrated:
    """A scheme with the numbers that calibration images gave it.

    Attributes:
        ranges: of all activations.
        unsupported: operators that stay in float because no runtime has them in int8, each with the reason.
    """

    scheme: Scheme
    ranges: Ranges
    unsupported: list[str]


def calibrate(captured: GraphModule, scheme: Scheme, batches: Iterable[Tensor]) -> Calibrated:
    """Observe activations.

    Args:
        captured: what `graph.capture` gave; it is not changed.
        batches: (N, C, H, W) float32 each, normalised; every batch weighs alike.
    """
    with quiet():
        from neural_compressor.torch.quantization import prepare

        from . import compressor

        prepared = prepare(compressor.exported(copy_model(captured)), compressor.config(scheme))
        observe(prepared, batches)
        return Calibrated(scheme, _ranges(prepared), prepared.meta[compressor.UNSUPPORTED])


def tune(
    captured: GraphModule,
    schemes: Sequence[Scheme],
    batches: Sequence[Tensor],
    score: Callable[[nn.Module], Score],
    float_top1: float,
    wanted: float,
) -> list[tuple[Calibrated, Score]]:
    """Let neural-compressor try schemes in order until one is good enough, and say what each was worth.

    Its own choice is not taken: it gives back a model whether or not one was good enough, and compares accuracies only.

    Args:
        captured: what `graph.capture` gave; it is not changed.
        score: on the validation split.
        float_top1: accuracy of the float graph, 0 to 1.
        wanted: accuracy, 0 to 1, at which it may stop; above 1 to try all.
    """
    scores: list[Score] = []
    found: list[Calibrated] = []

    def evaluate(model: nn.Module) -> float:
        scores.append(score(ExportedGraph(model) if isinstance(model, GraphModule) else model))
        return 1 + scores[-1].top1  # its losses are relative, to numbers that must not be zero

    def calibrate(prepared: GraphModule) -> None:
        observe(prepared, batches)
        scheme = prepared.meta[compressor.SCHEME]
        found.append(Calibrated(scheme, _ranges(prepared), prepared.meta[compressor.UNSUPPORTED]))

    with quiet():
        from neural_compressor.torch.quantization import TuningConfig, autotune

        from . import compressor

        baseline = 1 + float_top1
        goal = TuningConfig(
            config_set=[compressor.config(scheme) for scheme in schemes],
            tolerable_loss=1 - (1 + wanted) / baseline,
            max_trials=len(schemes),
        )
        autotune(compressor.exported(copy_model(captured)), goal, evaluate, run_fn=calibrate)
    return list(zip(found, scores[1:], strict=False))  # the first score is the float graph's


def observe(prepared: GraphModule, batches: Iterable[Tensor]) -> None:
    """Let the observers of a prepared graph see images."""
    with torch.no_grad():
        for number, images in enumerate(batches, start=1):
            for module in prepared.modules():
                if isinstance(module, MovingAverageMinMaxObserver):
                    module.averaging_constant = 1 / number  # a mean over all batches, each with the same weight
            prepared(images)


def _ranges(prepared: GraphModule) -> Ranges:
    ranges: Ranges = {}
    for name, module in prepared.named_children():
        if isinstance(module, ObserverBase) and module.qscheme in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            scale, zero_point = module.calculate_qparams()
            ranges[name] = float(scale), int(zero_point)
    return ranges
