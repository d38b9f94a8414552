"""Load and check everything a run needs before its first pass, so that mistakes surface early."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from mbcompress.contract.context import Context
from mbcompress.contract.models import ModelSource
from mbcompress.contract.process_group import ProcessGroup
from mbcompress.contract.teachers import teachers_in
from mbcompress.contract.training import trainings_in
from mbcompress.data.seed import fork_rng, seed_everything
from mbcompress.errors import MbcompressError
from mbcompress.graph import copy_model
from mbcompress.graph.operators import register_operators
from mbcompress.measure.metrics import Metrics
from mbcompress.pipeline.model import check_training_mode, count_outputs, load_model, prepare_model
from mbcompress.recipe.checks import leakage_warnings
from mbcompress.training.distributed import equalize
from mbcompress.training.trainer import check_batch_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from mbcompress.contract.progress import Progress
    from mbcompress.contract.training import BaseTrainingConfig
    from mbcompress.data.splits import Splits
    from mbcompress.recipe.model import Recipe
    from mbcompress.registry.discovery import Registry


@dataclass(frozen=True)
class Inputs:
    """What a caller provides: device, progress, and objects that replace parts of the recipe.

    Attributes:
        device: device of the passes.
        progress: shows the progress of the run.
        model: used if the plan has no model source.
        splits: used if the plan has no data.
        process_group: the processes that run the plan.
    """

    device: torch.device
    progress: Progress
    model: nn.Module | None = None
    splits: Splits | None = None
    process_group: ProcessGroup = field(default_factory=ProcessGroup)


@dataclass(frozen=True)
class Setup:
    """Everything that is loaded before the first pass.

    Attributes:
        model: the loaded model, on the device.
        outputs: number of logits per image; can be larger than the number of classes in the data.
        context: context of the passes; its baseline is a frozen copy of the model.
    """

    plan: Recipe
    model: nn.Module
    splits: Splits
    outputs: int
    metrics: Metrics
    context: Context


def preflight(plan: Recipe, registry: Registry, inputs: Inputs) -> Setup:
    """Load model and data, and check that passes, metrics and runtimes can use them.

    Raises:
        MbcompressError: a check failed.
    """
    progress, process_group = inputs.progress, inputs.process_group
    for label, config in trainings(plan):
        check_batch_size(label, config.batch_size, process_group.world_size, config.grad_accum_steps)
    if process_group.is_main_process:
        _prepare_runtimes(plan, registry, progress)
    seed_everything(plan.seed)
    with progress.busy("load model and data"):
        model = load_model(plan.model, inputs.model)
        splits = _load_data(plan, inputs.splits)
    for note in (*splits.notes, *leakage_warnings(plan, splits)):
        progress.say(note)
    shape = splits.test.pixels.shape[1:]
    outputs = _prepare_model(model, torch.zeros(2, *shape), plan, splits)
    metrics = Metrics(plan.metrics, registry.metrics)
    metrics.dry_run(outputs)
    _synchronize(model, splits, process_group)
    model.to(inputs.device)
    context = Context(
        splits.development(),
        frozen_copy(model),
        (shape[0], shape[1], shape[2]),
        inputs.device,
        plan.seed,
        progress,
        runtimes=plan.export,
        process_group=process_group,
    )
    _load_teachers(plan, context)
    return Setup(plan, model, splits, outputs, metrics, context)


def frozen_copy(model: nn.Module) -> nn.Module:
    """Return a frozen copy in eval mode."""
    return copy_model(model).eval().requires_grad_(False)


def trainings(plan: Recipe) -> Iterator[tuple[str, BaseTrainingConfig]]:
    """Yield the training configurations of the plan, each with a label of recipe location and pass."""
    for index, component in enumerate(plan.passes):
        place = f"{plan.locations[index]}: " if plan.locations else ""
        yield from ((f"{place}{component.name}", config) for config in trainings_in(component))


def _prepare_runtimes(plan: Recipe, registry: Registry, progress: Progress) -> None:
    if any(runtime.needs_torch for runtime in plan.export):
        register_operators(operator_set for _, operator_set in registry.operators.values())
    for runtime in plan.export:
        runtime.prepare(progress)


def _load_data(plan: Recipe, splits: Splits | None) -> Splits:
    if splits is not None:
        return splits
    assert plan.data is not None  # a plan has data, or the caller provides splits
    assert plan.model is not None  # for a caller's module, the API loads the data
    with fork_rng(()):  # splits have their own seed and must not change the random state of the run
        seed_everything(plan.data.split_seed)
        return plan.data.load(plan.model.input_shape, plan.data.split_seed)


def _prepare_model(model: nn.Module, example: torch.Tensor, plan: Recipe, splits: Splits) -> int:
    """Prepare the model for training, in place, and return its number of outputs.

    Raises:
        MbcompressError: the model cannot run on these images, has too few outputs, or cannot be trained.
    """
    outputs = count_outputs(model, example)
    parts = (splits.train, splits.calibration, splits.validation, splits.test)
    largest = max(int(part.labels.max()) for part in parts)
    if largest >= outputs:
        raise MbcompressError(
            f"data: has label {largest}, but the model has {outputs} outputs; set num_classes to at least {largest + 1}"
        )
    prepare_model(model, example)
    if first := next(trainings(plan), None):  # one is enough: all train the same model
        check_training_mode(model, example, first[0])
    return outputs


def _synchronize(model: nn.Module, splits: Splits, process_group: ProcessGroup) -> None:
    """Copy the main process's weights to the other processes.

    Raises:
        MbcompressError: this process has loaded different data than the main process.
    """
    equalize(model, process_group)
    if process_group.world_size > 1 and process_group.broadcast_object(splits.fingerprint) != splits.fingerprint():
        raise MbcompressError(
            "data: this process has loaded different images than the main process, or in a different order; all "
            "processes must have the same data in the same order"
        )


def _load_teachers(plan: Recipe, context: Context) -> None:
    """Load every teacher once, to find missing or unsuitable ones."""
    for component in plan.passes:
        for _, teacher in teachers_in(component):
            if isinstance(teacher, ModelSource):
                context.teacher(teacher)
