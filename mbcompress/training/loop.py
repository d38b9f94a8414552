"""SGD over images in memory, keeping the weights that were best on the validation split."""

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from mbcompress.contract.context import Context
from mbcompress.contract.training import TrainingOptions
from mbcompress.contract.traits import Trait
from mbcompress.data.loader import Batch, batches_per_epoch, derived_seed, training_batches
from mbcompress.data.splits import Augmentation
from mbcompress.errors import Interrupted, MbcompressError, TrainingDivergedError
from mbcompress.files import slug
from mbcompress.graph import to_channels_last
from mbcompress.training.callbacks import Constraint, KeepZeros
from mbcompress.training.distributed import Synchronization
from mbcompress.training.evaluation import Score, evaluate
from mbcompress.training.history import FEWEST_EPOCHS, History
from mbcompress.training.memory import kept_memory
from mbcompress.training.objectives import Loss
from mbcompress.training.optim import average, norm_momentum, optimizer, rate
from mbcompress.training.precision import mixed_precision
from mbcompress.training.resolutions import check_sizes, scale

State = dict[str, Tensor]


@dataclass
class _Reached:
    """How far a training is: `step` steps of `epoch`, which counts from 1, are done."""

    epoch: int
    step: int
    scores: list[Score]
    best: int
    best_state: State
    settled: bool
    """Whether the best so far is as constrained as the result must be."""
    losses: list[float] = field(default_factory=list)
    """Mean of each epoch's steps."""
    running: float = 0.0
    """Sum over the steps of this epoch."""


def fit(
    model: nn.Module,
    context: Context,
    options: TrainingOptions,
    loss: Loss,
    label: str,
    constraint: Constraint | None = None,
) -> History:
    """Train `model` in place and leave it in eval mode with its best weights, those before training included.

    A training that was killed goes on where its last checkpoint was, and ends with the same weights to the last bit.
    Several processes (`context.process_group`) divide every batch, and all end with the same weights.

    Args:
        label: what the progress bar and a divergence error call this training.
        constraint: what holds after every step; None keeps the zeros of a sparse model, and nothing of others.

    Raises:
        TrainingDivergedError: the loss became NaN or infinite; the model is left as it was before that step.
        Interrupted: work should end; what was reached is saved.
        MbcompressError: a batch has too few images for all processes.
        ProcessLostError: another process has ended.
    """
    if constraint is None and Trait.SPARSE in context.traits:
        constraint = KeepZeros()
    training = _Training(model, context, options, loss, label, constraint)
    with norm_momentum(model, options.norm_momentum), kept_memory():
        try:
            while training.reached.epoch <= options.epochs:
                training.epoch()
        except Interrupted:
            training.save()
            raise
    model.load_state_dict(training.reached.best_state)
    model.eval()
    history = History(tuple(training.reached.scores), tuple(training.reached.losses), training.reached.best)
    _tell(history, context, label)
    return history


def _tell(history: History, context: Context, label: str) -> None:
    """Leave the curve among the pass's files, for the report."""
    name = f"{slug(label)}-curve"
    if history.losses:
        context.files[f"{name}.csv"] = history.table()
    if len(history.losses) >= FEWEST_EPOCHS and context.process_group.is_main_process:
        context.files[f"{name}.svg"] = history.picture(name, label)


class _Training:
    """One call of `fit`, which can be saved between any two steps."""

    def __init__(
        self,
        model: nn.Module,
        context: Context,
        options: TrainingOptions,
        loss: Loss,
        label: str,
        constraint: Constraint | None,
    ) -> None:
        self.model = to_channels_last(model.to(context.device))
        self.process_group = context.process_group
        self.batch_images = min(options.batch_size, len(context.data.train))
        check_shares(label, self.batch_images, self.process_group.world_size, options.accumulation)
        trained = [model, *([loss] if isinstance(loss, nn.Module) else [])]
        self.synchronization = Synchronization(trained, self.process_group)
        self.synchronization.begin()
        self.averaged = average(model, options.ema) if options.ema else None
        self.context = context
        self.options = options
        self.loss = loss
        self.constraint = constraint
        self.label = label
        self.augmentation = _augmentation(context.data.augmentation, options)
        self.outputs = check_sizes(model, context, options, label)
        self.optimizer = optimizer(trained, options)
        self.steps = batches_per_epoch(len(context.data.train), options.batch_size)
        self.rate = rate(options, max(1, self.steps * options.epochs))
        self.checkpoint = context.checkpoints.open(label)
        found = self.process_group.broadcast_object(self.checkpoint.read)
        self.reached = self._resume(*found) if found else self._begin()

    def _begin(self) -> _Reached:
        if self.constraint:
            self.constraint.begin(self.model)
        settled = self.constraint is None or self.constraint.settled
        return _Reached(1, 0, [self._evaluate()], 0, copy.deepcopy(self.model.state_dict()), settled)

    @property
    def kept(self) -> nn.Module:
        """The model whose weights are validated and kept."""
        kept: nn.Module = self.averaged.module if self.averaged else self.model
        return kept

    def epoch(self) -> None:
        """From where it is to the end of the epoch."""
        reached, data, options = self.reached, self.context.data, self.options
        batches = training_batches(
            data.train,
            data.normalization,
            self.augmentation,
            options.batch_size,
            self.context.device,
            seed=self.context.seed,
            epoch=reached.epoch,
            first=reached.step,
            classes=self.outputs,
            scale=scale(options, reached.epoch),
            share=self.process_group.shard,
        )
        bar = f"{self.label}, epoch {reached.epoch}/{options.epochs}, from {reached.scores[-1].top1:.1%} of validation"
        self.model.train()
        for batch in self._together(self.context.progress.track(batches, bar, self.steps - reached.step)):
            reached.running += self._step(batch)
            reached.step += 1
            if self.checkpoint.due:
                self.save()
        if self.constraint and self.averaged:
            self.constraint.hold(self.kept)
        reached.scores.append(self._evaluate())
        reached.losses.append(reached.running / self.steps)
        settled = self.constraint is None or self.constraint.settled
        if reached.scores[-1] >= reached.scores[reached.best] or not reached.settled:
            reached.best, reached.best_state = reached.epoch, copy.deepcopy(self.kept.state_dict())
            reached.settled = settled
        reached.epoch, reached.step, reached.running = reached.epoch + 1, 0, 0.0

    def _together(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; where a process is to end, all end before the same step."""
        while True:
            wish, batch = None, None
            try:
                batch = next(batches, None)
            except Interrupted as interrupt:
                wish = interrupt
            if self.process_group.any(wish is not None):
                raise wish or Interrupted
            if batch is None:
                return
            yield batch

    def _step(self, batch: Batch) -> float:
        """Learn from a batch; gives its loss."""
        options, reached, process_group = self.options, self.reached, self.process_group
        # dropout must not depend on where a training was interrupted, and not be the same in every process
        own = () if process_group.is_main_process else process_group.shard
        torch.manual_seed(derived_seed(self.context.seed, reached.epoch, reached.step, *own))
        lr = options.lr * self.rate((reached.epoch - 1) * self.steps + reached.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in batch.parts(options.accumulation):
            with mixed_precision(part.images.device, options.precision):
                value = self.loss(part, self.model(part.images)) * (len(part.images) / self.batch_images)
            value.backward()  # type: ignore[no-untyped-call]
            total += value.item()
        total = self.synchronization.after_backward(total)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), options.clip_norm or math.inf)
        if not (math.isfinite(total) and math.isfinite(norm.item())):
            raise TrainingDivergedError(
                f"{self.label}: the loss or its gradient is not finite in epoch {reached.epoch}, step "
                f"{reached.step + 1} of {self.steps} (lr {lr:.3g}); lower 'lr' or set 'clip_norm'"
            )
        self.optimizer.step()
        if self.constraint:
            done = ((reached.epoch - 1) * self.steps + reached.step + 1) / (self.steps * options.epochs)
            self.constraint.after_step(self.model, done)
        if self.averaged:
            self.averaged.update_parameters(self.model)
        return total

    def _evaluate(self) -> Score:
        data = self.context.data
        return evaluate(self.kept, data.validation, data.normalization, self.context.device, self.process_group)

    def save(self) -> None:
        """Everything that the rest of the training depends on, beside the options, the data and the code."""
        momenta = {
            str(index): self.optimizer.state[parameter]["momentum_buffer"]
            for index, parameter in enumerate(_parameters(self.optimizer))
            if self.optimizer.state[parameter].get("momentum_buffer") is not None
        }
        parts = {
            "model": self.model.state_dict(),
            "best": self.reached.best_state,
            "momentum": momenta,
            "averaged": self.averaged.state_dict() if self.averaged else {},
            "loss": self.loss.state_dict() if isinstance(self.loss, nn.Module) else {},
        }
        tensors = {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
        facts = {
            "epoch": self.reached.epoch,
            "step": self.reached.step,
            "scores": [asdict(score) for score in self.reached.scores],
            "best": self.reached.best,
            "settled": self.reached.settled,
            "losses": self.reached.losses,
            "running": self.reached.running,
            "constraint": self.constraint.state() if self.constraint else {},
        }
        self.checkpoint.write(tensors, facts)

    def _resume(self, tensors: State, facts: dict[str, Any]) -> _Reached:
        """Put back what `save` wrote, and give how far it was."""
        self.model.load_state_dict(_part("model", tensors))
        momenta = _part("momentum", tensors)
        for index, parameter in enumerate(_parameters(self.optimizer)):
            if (momentum := momenta.get(str(index))) is not None:
                self.optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
        if self.averaged:
            self.averaged.load_state_dict(_part("averaged", tensors))
        if isinstance(self.loss, nn.Module):
            self.loss.load_state_dict(_part("loss", tensors))
        if self.constraint:
            self.constraint.begin(self.model)
            self.constraint.restore(facts["constraint"])
        scores = [Score(**score) for score in facts["scores"]]
        rest = {name: facts[name] for name in ("epoch", "step", "best", "settled", "losses", "running")}
        return _Reached(scores=scores, best_state=_part("best", tensors), **rest)


def check_shares(label: str, images: int, processes: int, accumulation: int) -> None:
    """Refuse batches with a part of fewer than two images, of which BatchNorm can take no variance.

    Raises:
        MbcompressError: there are fewer than `2 * processes * accumulation` images in a batch.
    """
    fewest = 2 * processes * accumulation
    if processes * accumulation == 1 or images >= fewest:
        return
    ways = (
        (processes, f"among {processes} processes", "start fewer processes"),
        (accumulation, f"into {accumulation} parts", "lower 'accumulation'"),
    )
    divided = " and ".join(how for count, how, _ in ways if count > 1)
    instead = " or ".join(other for count, _, other in ways if count > 1)
    raise MbcompressError(
        f"{label}: a batch of {images} images cannot be divided {divided}, each of which needs at least two; "
        f"raise 'batch_size' to {fewest}, or {instead}"
    )


def _part(name: str, tensors: Mapping[str, Tensor]) -> State:
    return {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[Any]:
    for group in optimizer.param_groups:
        yield from group["params"]


def _augmentation(usual: Augmentation, options: TrainingOptions) -> Augmentation:
    """What the dataset advises, with what the options say instead."""
    wanted = {each.name: getattr(options, each.name) for each in fields(Augmentation)}
    return replace(usual, **{name: value for name, value in wanted.items() if value is not None})
