"""Runs a plan: load, apply the passes in order, export, measure, report. Imports torch."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import nn

from mbcompress.contract.context import Context
from mbcompress.contract.models import ModelSource
from mbcompress.contract.process_group import ProcessGroup
from mbcompress.contract.teachers import teachers_in
from mbcompress.contract.training import BaseTrainingConfig, trainings_in
from mbcompress.data.seed import fork_rng, seed_everything
from mbcompress.errors import MbcompressError, brief, first_line
from mbcompress.files import write_atomically, write_json
from mbcompress.measure import Artifact, Metrics, compare, compare_runtimes
from mbcompress.pipeline.executor import Stage, Steps, frozen, stage_of
from mbcompress.pipeline.model import check_training, prepare_model
from mbcompress.pipeline.run_directory import write_manifest
from mbcompress.recipe.checks import leakage_warnings
from mbcompress.report import build_report, write_report
from mbcompress.training.distributed import equalize
from mbcompress.training.trainer import check_batch_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mbcompress.cache.store import Store
    from mbcompress.contract.progress import Progress
    from mbcompress.data.splits import Splits
    from mbcompress.pipeline.events import Notifier
    from mbcompress.recipe.model import Recipe
    from mbcompress.registry.discovery import Registry


def run(
    plan: Recipe,
    registry: Registry,
    directory: Path,
    *,
    device: torch.device,
    progress: Progress,
    notifier: Notifier,
    store: Store | None = None,
    model: nn.Module | None = None,
    splits: Splits | None = None,
    process_group: ProcessGroup | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Carry out `plan`, write everything about it to `directory`, and give the compressed model and the report.

    Where several processes carry it out, all apply its passes, and main alone exports, measures and reports; the others
    use `directory` for themselves, and their report is empty.

    Args:
        plan: what to do.
        registry: where the plan's components came from.
        directory: an empty directory.
        device: where passes compute.
        progress: told what goes on.
        notifier: told of every pass that has finished.
        store: where finished steps are found and kept; None to compute everything.
        model: what the caller brings where the plan names no source.
        splits: what the caller brings where the plan names no data.
        process_group: that carries out the plan together; None for this one alone.

    Raises:
        MbcompressError: data, weights or a pass's task turn out to be impossible.
    """
    process_group = process_group or ProcessGroup()
    _check_batches(plan, process_group.world_size)
    for runtime in plan.export if process_group.is_main_process else ():
        runtime.prepare(progress)
    seed_everything(plan.seed)
    with progress.busy("load model and data"):
        loaded = _load_model(plan.model, model)
        splits = _load_data(plan, splits)
    for note in (*splits.notes, *leakage_warnings(plan, splits)):
        progress.say(note)
    shape = _image_shape(splits)
    outputs = _check_outputs(loaded, shape, splits)
    prepare_model(loaded, torch.zeros(2, *shape))
    for label, _ in islice(_trainings(plan), 1):  # all train the same model
        check_training(loaded, torch.zeros(2, *shape), label)
    metrics = Metrics(plan.metrics, registry.metrics)
    metrics.dry_run(outputs)
    _agree(loaded, splits, process_group)
    loaded.to(device)
    context = Context(
        splits.development(),
        frozen(loaded),
        shape,
        device,
        plan.seed,
        progress,
        runtimes=plan.export,
        process_group=process_group,
    )
    if not process_group.is_main_process:
        return _follow(plan, registry, directory, loaded, context), {}
    write_atomically(directory / "recipe.yaml", yaml.safe_dump(plan.to_mapping(), sort_keys=False))
    environment = dict(notifier.run.environment)
    write_json(directory / "environment.json", environment)
    _check_teachers(plan, context)
    files: dict[str, list[Artifact]] = {}
    if not plan.measure.baseline_after:  # what cannot be exported is found before the passes, not after
        copy_model = stage_of(frozen(loaded), context)  # exported on the CPU; the context's own stays on its device
        files["baseline"] = _export("baseline", copy_model, context, plan, directory)
    steps = Steps(plan, registry, directory, loaded, context, store)
    baseline, records = replace(steps.stage, model=context.baseline), [steps.loaded]
    for number, record in enumerate(steps.carry_out(), start=1):
        records.append(record)
        notifier.pass_finished(number, record["name"], record["metrics"], record["seconds"])
        if number == plan.measure.baseline_after:
            baseline = steps.rebase()
    if plan.measure.baseline_after:
        files["baseline"] = _export("baseline", baseline, context, plan, directory)
    files["model"] = _export("model", steps.stage, context, plan, directory)
    comparisons = [
        compare(runtime, before, after, splits.test, splits.normalization, plan.measure, metrics, progress)
        for runtime, before, after in zip(plan.export, files["baseline"], files["model"], strict=True)
    ]
    runtimes = []
    if len(plan.export) > 1:
        paths = [artifact.path for artifact in files["model"]]
        runtimes = compare_runtimes(plan.export, paths, comparisons, shape, plan.measure, progress)
    compared = [comparison.figures for comparison in comparisons]
    report = build_report(plan, splits, outputs, records, compared, runtimes, environment, directory)
    write_report(directory, report)
    write_manifest(directory)
    return steps.stage.model, report


def _follow(plan: Recipe, registry: Registry, directory: Path, loaded: nn.Module, context: Context) -> nn.Module:
    """The part of `run` that other processes than main have in it."""
    _check_teachers(plan, context)
    steps = Steps(plan, registry, directory, loaded, context, None)
    for number, _ in enumerate(steps.carry_out(), start=1):
        if number == plan.measure.baseline_after:
            steps.rebase()
    return steps.stage.model


def _trainings(plan: Recipe) -> Iterator[tuple[str, BaseTrainingConfig]]:
    """What will be trained: with its place and its pass, the options."""
    for index, step in enumerate(plan.passes):
        where = f"{plan.locations[index]}: " if plan.locations else ""
        yield from ((f"{where}{step.name}", config) for config in trainings_in(step))


def _check_batches(plan: Recipe, world_size: int) -> None:
    """Refuse batches that cannot be divided among the processes before anything is computed."""
    for label, options in _trainings(plan):
        check_batch_size(label, options.batch_size, world_size, options.grad_accum_steps)


def _agree(model: nn.Module, splits: Splits, process_group: ProcessGroup) -> None:
    """Every process has main's weights, and the same images.

    Raises:
        MbcompressError: this process has loaded other images than main.
    """
    equalize(model, process_group)
    if process_group.world_size > 1 and process_group.broadcast_object(splits.fingerprint) != splits.fingerprint():
        raise MbcompressError(
            "data: this process has loaded other images than main, or in another order; all processes must be given "
            "the same data, in the same order"
        )


def _load_model(source: ModelSource | None, model: nn.Module | None) -> nn.Module:
    if model is None:
        assert source is not None  # resolve() demands one of the two
        model = source.load()
    try:
        return copy.deepcopy(model).eval()  # the caller's own stays as it is
    except Exception as error:  # a stranger's module may raise anything
        raise MbcompressError(
            f"model: cannot be copied ({type(error).__name__}: {brief(first_line(error))}); every attribute must be "
            "copyable: weight_norm of torch.nn.utils, for one, must be removed, or be that of its parametrizations"
        ) from error


def _load_data(plan: Recipe, splits: Splits | None) -> Splits:
    if splits is not None:
        return splits
    assert plan.data is not None  # resolve() demands one of the two
    assert plan.model is not None  # for a module of the caller's, the caller loads
    with fork_rng(()):  # what a callable draws decides the splits, and neither model nor seed may change them
        seed_everything(plan.data.split_seed)
        return plan.data.load(plan.model.input_shape, plan.data.split_seed)


def _check_outputs(model: nn.Module, shape: tuple[int, int, int], splits: Splits) -> int:
    """The number of outputs, by one forward pass on the CPU: there must be one for every label."""
    try:
        with torch.no_grad():
            logits = model.cpu()(torch.zeros(2, *shape))
    except Exception as error:  # the module may be a stranger's, and raise anything
        raise MbcompressError(f"model: cannot run on images of shape {shape}: {first_line(error)}") from error
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or len(logits) != 2:
        raise MbcompressError(f"model: must return logits of shape (N, num_classes), got {_shape_of(logits)}")
    parts = (splits.train, splits.calibration, splits.validation, splits.test)
    largest = max(int(part.labels.max()) for part in parts)
    if largest >= logits.shape[1]:
        raise MbcompressError(
            f"data: has label {largest}, but the model has {logits.shape[1]} outputs; "
            f"set num_classes to at least {largest + 1}"
        )
    return int(logits.shape[1])


def _check_teachers(plan: Recipe, context: Context) -> None:
    """Load every teacher once before the first pass: one that is missing or does not fit is found now."""
    for step in plan.passes:
        for _, teacher in teachers_in(step):
            if isinstance(teacher, ModelSource):
                context.teacher(teacher)


def _image_shape(splits: Splits) -> tuple[int, int, int]:
    channels, height, width = splits.test.pixels.shape[1:]
    return channels, height, width


def _shape_of(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__


def _export(name: str, stage: Stage, context: Context, plan: Recipe, directory: Path) -> list[Artifact]:
    """The model as a file of each runtime, in the recipe's order."""
    model = stage.model.cpu()
    artifacts = []
    for runtime in context.progress.track(plan.export, f"export {name}", len(plan.export)):
        path = directory / plan.artifact(name, runtime)
        runtime.export(model, context.input_shape, path)
        artifacts.append(Artifact(path, stage.parameters, stage.macs))
    return artifacts
