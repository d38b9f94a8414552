"""The training loop over images in memory; it keeps the weights with the best validation score."""

from __future__ import annotations

import copy
import math
from contextlib import ExitStack
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from mbcompress.contract.traits import Trait
from mbcompress.data.loader import Batch, batches_per_epoch, derived_seed, training_batches
from mbcompress.data.splits import Augmentation
from mbcompress.errors import MbcompressError, TrainingDivergedError, first_line
from mbcompress.graph.memory_format import to_channels_last
from mbcompress.training.callbacks import Callback, KeepZeros, TrainerState
from mbcompress.training.checkpoint import Reached, load, save
from mbcompress.training.distributed import Synchronization
from mbcompress.training.evaluation import Score, evaluate
from mbcompress.training.history import History
from mbcompress.training.objectives import Objective, objective_for
from mbcompress.training.optim import bn_momentum, build_optimizer, build_scheduler, moving_average
from mbcompress.training.precision import mixed_precision
from mbcompress.training.signals import DeferredSignals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mbcompress.contract.context import Context
    from mbcompress.contract.training import BaseTrainingConfig, DistillationConfig


def fit(
    model: nn.Module,
    context: Context,
    config: BaseTrainingConfig,
    *,
    objective: Objective | None = None,
    distillation: DistillationConfig | None = None,
    callbacks: Sequence[Callback] = (),
    label: str = "training",
) -> History:
    """Train `model` in place and leave it in eval mode with its best weights, which can be the initial ones.

    A killed training resumes from its last checkpoint with bit-identical results. Several processes
    (`context.process_group`) share every batch and end with the same weights.

    Args:
        objective: (model, batch) -> scalar loss; by default cross-entropy, with `distillation` if given.
        distillation: knowledge distillation from a teacher; None trains on the labels only.
        callbacks: called around optimizer steps, in this order. Sparse models get `KeepZeros` automatically.
        label: name in progress messages, errors and file names.

    Raises:
        TrainingDivergedError: the loss or its gradient became NaN or infinite; that optimizer step is not applied.
        KeyboardInterrupt: Ctrl-C; a checkpoint is saved.
        MbcompressError: a batch has too few images for all processes.
        ProcessLostError: another process has exited.
    """
    with ExitStack() as stack:
        if objective is None:
            smoothing = config.label_smoothing
            objective = stack.enter_context(objective_for(model, context, smoothing, distillation))
        if Trait.SPARSE in context.traits and not any(isinstance(callback, KeepZeros) for callback in callbacks):
            callbacks = (KeepZeros(), *callbacks)
        trainer = Trainer(model, context, config, objective, callbacks, label)
        stack.enter_context(bn_momentum(model, config.bn_momentum))
        trainer.run()
    history = trainer.finish()
    history.write_files(context, label)
    return history


class Trainer:
    """One call of `fit`; its state can be saved between any two optimizer steps.

    Attributes:
        reached: progress of the training.
        steps: optimizer steps per epoch.
    """

    def __init__(
        self,
        model: nn.Module,
        context: Context,
        config: BaseTrainingConfig,
        objective: Objective,
        callbacks: Sequence[Callback],
        label: str,
    ) -> None:
        self.model = to_channels_last(model.to(context.device))
        self.context, self.config, self.objective = context, config, objective
        self.callbacks, self.label = callbacks, label
        self.process_group = context.process_group
        self.batch_images = min(config.batch_size, len(context.data.train))
        check_batch_size(label, self.batch_images, self.process_group.world_size, config.grad_accum_steps)
        learned = [model, *([objective] if isinstance(objective, nn.Module) else [])]
        self.synchronization = Synchronization(learned, self.process_group)
        self.synchronization.begin()
        self.average = moving_average(model, config.ema) if config.ema else None
        self.augmentation = _augmentation(context.data.augmentation, config)
        self.resolutions: tuple[float, ...] = getattr(config, "resolutions", ())
        self.outputs = _check_resolutions(model, context, self.resolutions, label, needed=config.mixup > 0)
        self.steps = batches_per_epoch(len(context.data.train), config.batch_size)
        self.max_steps = max(1, self.steps * config.epochs)
        self.optimizer = build_optimizer(learned, config)
        self.scheduler = build_scheduler(self.optimizer, config, self.max_steps)
        self.checkpoint = context.checkpoints.open(label)
        found = self.process_group.broadcast_object(self.checkpoint.read)
        self.reached = load(self, *found) if found else self._begin()

    def _begin(self) -> Reached:
        state = TrainerState(1, 0, self.max_steps)
        self.start_callbacks(state)
        return Reached(1, 0, [self._validate(state)], 0, copy.deepcopy(self.model.state_dict()), self._target_reached())

    def start_callbacks(self, state: TrainerState) -> None:
        """Call `on_train_start` of every callback."""
        for callback in self.callbacks:
            callback.on_train_start(self.model, state)

    @property
    def kept(self) -> nn.Module:
        """The model that is validated and kept: the moving average if enabled, else the trained model."""
        kept: nn.Module = self.average.module if self.average else self.model
        return kept

    @property
    def state(self) -> TrainerState:
        """Progress of the training, for callbacks."""
        done = (self.reached.epoch - 1) * self.steps + self.reached.step
        return TrainerState(self.reached.epoch, done, self.max_steps)

    def run(self) -> None:
        """Train to the end.

        Raises:
            KeyboardInterrupt: a signal was received; a checkpoint is saved.
        """
        with DeferredSignals(self.context.progress.say) as signals:
            while self.reached.epoch <= self.config.epochs:
                self.run_epoch(signals)

    def finish(self) -> History:
        """Load the best weights into the model and return the history."""
        self.model.load_state_dict(self.reached.best_state)
        self.model.eval()
        return History(tuple(self.reached.scores), tuple(self.reached.losses), self.reached.best)

    def run_epoch(self, signals: DeferredSignals) -> None:
        """Train to the end of the current epoch and validate."""
        reached, epochs = self.reached, self.config.epochs
        bar = (
            f"{self.label}, epoch {reached.epoch}/{epochs}, starting at {100 * reached.scores[-1].top1:.1f} % val top-1"
        )
        self.model.train()
        for batch in self.context.progress.track(self._batches(), bar, self.steps - reached.step):
            if self.process_group.any(signals.pending != 0):
                save(self)
                signals.deliver()
            reached.running += self.make_step(batch)
            reached.step += 1
            if self.checkpoint.due:
                save(self)
        reached.scores.append(self._validate(self.state))
        reached.losses.append(reached.running / self.steps)
        if reached.scores[-1] >= reached.scores[reached.best] or not reached.target_reached:
            reached.best, reached.best_state = reached.epoch, copy.deepcopy(self.kept.state_dict())
            reached.target_reached = self._target_reached()
        reached.epoch, reached.step, reached.running = reached.epoch + 1, 0, 0.0

    def _batches(self) -> Iterator[Batch]:
        data, config, epoch = self.context.data, self.config, self.reached.epoch
        scales = self.resolutions or (1.0,)
        return training_batches(
            data.train,
            data.normalization,
            self.augmentation,
            config.batch_size,
            self.context.device,
            seed=self.context.seed,
            epoch=epoch,
            first=self.reached.step,
            classes=self.outputs,
            scale=scales[(epoch - 1) * len(scales) // config.epochs],
            shard=self.process_group.shard,
        )

    def make_step(self, batch: Batch) -> float:
        """Make one optimizer step and return the loss of the batch."""
        # dropout must not depend on interruptions, and must differ between processes
        own = () if self.process_group.is_main_process else self.process_group.shard
        torch.manual_seed(derived_seed(self.context.seed, self.reached.epoch, self.reached.step, *own))
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.synchronization.after_backward(self._backward(batch))
        state = self.state
        for callback in self.callbacks:
            callback.on_before_optimizer_step(self.model, state)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm or math.inf)
        if not (math.isfinite(loss) and math.isfinite(norm.item())):
            raise TrainingDivergedError(
                f"{self.label}: the loss or its gradient is not finite in epoch {self.reached.epoch}, step "
                f"{self.reached.step + 1} of {self.steps} (lr {self.scheduler.get_last_lr()[0]:.3g}); lower 'lr' or "
                "set 'clip_norm'"
            )
        self.optimizer.step()
        self.scheduler.step()
        state = replace(state, global_step=state.global_step + 1)
        for callback in self.callbacks:
            callback.on_train_batch_end(self.model, state)
        if self.average:
            self.average.update_parameters(self.model)
        return loss

    def _backward(self, batch: Batch) -> float:
        """Accumulate the gradients of the batch part by part and return its loss."""
        total = 0.0
        precision = getattr(self.config, "precision", "fp32")
        for part in batch.parts(self.config.grad_accum_steps):
            with mixed_precision(part.images.device, precision):
                value = self.objective(self.model, part) * (len(part.images) / self.batch_images)
            value.backward()  # type: ignore[no-untyped-call]
            total += value.item()
        return total

    def _validate(self, state: TrainerState) -> Score:
        for callback in self.callbacks:
            callback.on_validation_start(self.kept, state)
        data = self.context.data
        return evaluate(self.kept, data.validation, data.normalization, self.context.device, self.process_group)

    def _target_reached(self) -> bool:
        return all(callback.target_reached for callback in self.callbacks)


def check_batch_size(label: str, images: int, world_size: int, grad_accum_steps: int) -> None:
    """Reject batches with parts of fewer than two images, because BatchNorm needs two for a variance.

    Raises:
        MbcompressError: a batch has fewer than `2 * world_size * grad_accum_steps` images.
    """
    fewest = 2 * world_size * grad_accum_steps
    if world_size * grad_accum_steps == 1 or images >= fewest:
        return
    ways = (
        (world_size, f"among {world_size} processes", "start fewer processes"),
        (grad_accum_steps, f"into {grad_accum_steps} parts", "lower 'grad_accum_steps'"),
    )
    divided = " and ".join(how for count, how, _ in ways if count > 1)
    instead = " or ".join(other for count, _, other in ways if count > 1)
    raise MbcompressError(
        f"{label}: a batch of {images} images cannot be divided {divided}, each of which needs at least two; "
        f"raise 'batch_size' to {fewest}, or {instead}"
    )


def _augmentation(default: Augmentation, config: BaseTrainingConfig) -> Augmentation:
    """Return the dataset's augmentation with the configuration's overrides."""
    values = {field.name: getattr(config, field.name) for field in fields(Augmentation)}
    return replace(default, **{name: value for name, value in values.items() if value is not None})


def _check_resolutions(
    model: nn.Module, context: Context, resolutions: Sequence[float], label: str, *, needed: bool
) -> int:
    """Check that the model runs at all training resolutions and return its number of outputs.

    Returns 0 if there are no resolutions and the number is not `needed`.

    Raises:
        MbcompressError: the model does not accept one of the sizes.
    """
    example, outputs = context.example(), 0
    if not (resolutions or needed):
        return outputs
    for scale in sorted({*resolutions, 1.0}):
        height, width = (max(1, round(scale * side)) for side in example.shape[2:])
        try:
            with torch.no_grad():
                outputs = model(example[:, :, :height, :width]).shape[1]
        except Exception as error:  # a model can reject an input size with any exception
            raise MbcompressError(
                f"{label}: the model does not accept images of {height}x{width}, which {scale:g} in 'resolutions' "
                f"requires ({first_line(error)}); leave 'resolutions' empty"
            ) from error
    return outputs
