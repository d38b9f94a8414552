"""SGD over images in memory, keeping the weights that were best on the validation split."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from mbcompress.context import Context
from mbcompress.data import Augmentation
from mbcompress.errors import TrainingDivergedError
from mbcompress.layout import channels_last
from mbcompress.training.batches import batches_per_epoch, training_batches
from mbcompress.training.evaluation import Score, evaluate
from mbcompress.training.losses import Loss
from mbcompress.training_options import TrainingOptions


@dataclass(frozen=True)
class History:
    """Validation scores before training and after each epoch; the model holds the weights of epoch `best`."""

    scores: tuple[Score, ...]
    best: int


def fit(model: nn.Module, context: Context, options: TrainingOptions, loss: Loss, label: str) -> History:
    """Train `model` in place and leave it in eval mode with its best weights, those before training included.

    Args:
        label: what the progress bar and a divergence error call this training.

    Raises:
        TrainingDivergedError: the loss became NaN or infinite; the model is left as it was before that step.
    """
    device, data = context.device, context.data
    augmentation = Augmentation(
        data.augmentation.crop_padding if options.crop_padding is None else options.crop_padding,
        data.augmentation.flip if options.flip is None else options.flip,
    )
    channels_last(model.to(device))
    optimizer = _optimizer(model, options)
    steps = batches_per_epoch(len(data.train), options.batch_size)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate(options, max(1, steps * options.epochs)))
    generator = torch.Generator().manual_seed(context.seed)
    scores = [evaluate(model, data.validation, data.normalization, device)]
    best, best_state = 0, copy.deepcopy(model.state_dict())
    momenta = {module: module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)}
    for module in momenta if options.norm_momentum else ():
        module.momentum = options.norm_momentum
    for epoch in range(1, options.epochs + 1):
        model.train()
        batches = training_batches(data.train, data.normalization, augmentation, options.batch_size, device, generator)
        bar = f"{label}, epoch {epoch}/{options.epochs}, validation {scores[-1].top1:.1%}"
        for step, (images, labels) in enumerate(context.progress.track(batches, bar, steps), start=1):
            with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
                value = loss(images, model(images), labels)
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm or math.inf)
            if not (math.isfinite(value.item()) and math.isfinite(norm.item())):
                raise TrainingDivergedError(
                    f"{label}: the loss or its gradient is not finite in epoch {epoch}, step {step} of {steps} "
                    f"(lr {optimizer.param_groups[0]['lr']:.3g}); lower 'lr' or set 'clip_norm'"
                )
            optimizer.step()
            scheduler.step()
        scores.append(evaluate(model, data.validation, data.normalization, device))
        if scores[-1] >= scores[best]:
            best, best_state = epoch, copy.deepcopy(model.state_dict())
    for module, momentum in momenta.items():
        module.momentum = momentum
    model.load_state_dict(best_state)
    model.eval()
    return History(tuple(scores), best)


def _optimizer(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    weights = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    groups = [{"params": weights, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, options.lr, options.momentum, nesterov=options.momentum > 0)


def _rate(options: TrainingOptions, total: int) -> Callable[[int], float]:
    """Step -> factor on the peak learning rate."""
    rise = max(1, round((1 / 3 if options.schedule == "one_cycle" else options.warmup) * total))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        if options.schedule == "constant":
            return 1.0
        done = (step - rise) / max(1, total - rise)
        return (1 + math.cos(math.pi * done)) / 2 if options.schedule == "cosine" else 1 - done

    return factor
