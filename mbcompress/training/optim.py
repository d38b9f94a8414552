"""Build the optimizer, learning-rate schedule and EMA of a training configuration."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mbcompress.contract.training import BaseTrainingConfig


def build_optimizer(modules: Sequence[nn.Module], config: BaseTrainingConfig) -> torch.optim.Optimizer:
    """Return the optimizer of all trainable parameters; biases and normalization layers have no weight decay."""
    learned = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learned if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in learned if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, config.lr)
    return torch.optim.SGD(groups, config.lr, config.momentum, nesterov=config.momentum > 0)


def build_scheduler(optimizer: torch.optim.Optimizer, config: BaseTrainingConfig, steps: int) -> LRScheduler:
    """Return the learning-rate scheduler for `steps` optimizer steps; call `step` after each."""
    if config.schedule == "one_cycle":
        return OneCycleLR(optimizer, config.lr, total_steps=steps, cycle_momentum=False)
    return LambdaLR(optimizer, lr_lambda(config, steps))


def lr_lambda(config: BaseTrainingConfig, steps: int) -> Callable[[int], float]:
    """Return step -> factor of the peak learning rate, for the cosine and constant schedules."""
    warmup = max(1, round(config.warmup * steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if config.schedule == "constant":
            return 1.0
        return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2

    return factor


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average (EMA) of weights and buffers, with a smaller decay in the first steps."""

    def update(averages: list[Tensor], currents: list[Tensor], count: Tensor) -> None:
        if averages[0].is_floating_point():
            steps = float(count)
            torch._foreach_lerp_(averages, currents, 1 - min(decay, (1 + steps) / (10 + steps)))
        else:
            torch._foreach_copy_(averages, currents)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)  # type: ignore[arg-type]


@contextmanager
def bn_momentum(model: nn.Module, momentum: float | None) -> Iterator[None]:
    """Set the momentum of every BatchNorm2d while the block runs; None keeps it."""
    before = {module: module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)}
    for module in before if momentum else ():
        module.momentum = momentum
    try:
        yield
    finally:
        for module, own in before.items():
            module.momentum = own
