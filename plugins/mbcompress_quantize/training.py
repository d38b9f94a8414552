"""Quantization-aware training that keeps the better of its start and its result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbcompress.errors import TrainingDivergedError
from mbcompress.graph import copy_model
from mbcompress.measure import ExportBenchmark
from mbcompress.training import batches_per_epoch, evaluate, fit

from .graph import FakeQuantized
from .saturation import report_saturation

if TYPE_CHECKING:
    from torch import nn

    from mbcompress import Context
    from mbcompress.training import Score

    from . import Qat
    from .posttraining import Quantized


def train(start: Quantized, context: Context, options: Qat, label: str) -> nn.Module:
    """Train, and return the int8 model from after or before training, whichever file scores better on validation."""
    model = start.model
    training = options.training
    steps = training.epochs * batches_per_epoch(len(context.data.train), training.batch_size)
    calls = steps * training.grad_accum_steps
    model.free_calls, model.observed_calls = round(options.round_from * calls), round(options.observe * calls)
    plain = copy_model(model)
    assert isinstance(plain, FakeQuantized)
    context.metrics["best_epoch"] = 0
    try:
        history = fit(model, context, training, distillation=options.distillation, label=label)
    except TrainingDivergedError as error:
        context.progress.say(f"{error}; keeping the post-training result")
        return plain.convert()
    if history.best == 0:
        context.progress.say(f"{label}: training did not improve on post-training quantization; keeping the latter")
        return plain.convert()
    before, after = plain.convert(), model.convert()
    scores = _scores([before, after], context)
    if scores[1] < scores[0]:
        context.progress.say(
            f"{label}: exported, post-training quantization has val top-1 {scores[0].top1:.1%}, the trained model "
            f"{scores[1].top1:.1%}; keeping the former"
        )
        return before
    context.metrics["best_epoch"] = history.best
    report_saturation(model.captured, start.scheme, context, options.reduce_range, label)
    return after


def _scores(models: list[nn.Module], context: Context) -> list[Score]:
    """Scores on the validation split, of the exported files if the run exports any."""
    data = context.data
    if not context.runtimes:
        return [evaluate(model, data.validation, data.normalization, context.device) for model in models]
    with ExportBenchmark(context) as benchmark:
        return [benchmark.score(model) for model in models]
