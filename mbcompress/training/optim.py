"""What a step is made with: the optimizer, its learning rate, and the average of the weights."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mbcompress.contract.training import TrainingOptions


def optimizer(modules: Sequence[nn.Module], options: TrainingOptions) -> torch.optim.Optimizer:
    """SGD over all that is learned; weight decay is for weights, not for biases and normalisation."""
    learned = [p for module in modules for p in module.parameters() if p.requires_grad]
    weights = [p for p in learned if p.dim() > 1]
    others = [p for p in learned if p.dim() <= 1]
    groups = [{"params": weights, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, options.lr, options.momentum, nesterov=options.momentum > 0)


def rate(options: TrainingOptions, total: int) -> Callable[[int], float]:
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


def average(model: nn.Module, decay: float) -> AveragedModel:
    """A moving average of weights and statistics, faster at the beginning, when the weights are still far off."""

    def update(averages: list[Tensor], currents: list[Tensor], count: Tensor) -> None:
        if averages[0].is_floating_point():
            steps = float(count)
            torch._foreach_lerp_(averages, currents, 1 - min(decay, (1 + steps) / (10 + steps)))
        else:
            torch._foreach_copy_(averages, currents)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)  # type: ignore[arg-type]


@contextmanager
def norm_momentum(model: nn.Module, momentum: float | None) -> Iterator[None]:
    """BatchNorm's momentum while the block runs; None leaves it."""
    before = {module: module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)}
    for module in before if momentum else ():
        module.momentum = momentum
    try:
        yield
    finally:
        for module, own in before.items():
            module.momentum = own
