"""Runs a plan: load, apply the passes in order, export, measure, report. Imports torch."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors.torch import save
from torch import nn

from mbcompress.architecture import describe
from mbcompress.context import Context
from mbcompress.counting import count_macs, count_parameters
from mbcompress.environment import describe_environment
from mbcompress.errors import MbcompressError, first_line
from mbcompress.files import write_atomically, write_json
from mbcompress.measurement import Artifact, compare
from mbcompress.report import build_report, write_report
from mbcompress.run_directory import write_manifest
from mbcompress.training import evaluate
from mbcompress.traits import INITIAL, Trait

if TYPE_CHECKING:
    from pathlib import Path

    from mbcompress.components import ModelSource, Runtime
    from mbcompress.data import Splits
    from mbcompress.host import Catalogue
    from mbcompress.progress import Progress
    from mbcompress.recipe.plan import Plan


@dataclass(frozen=True)
class Stage:
    """A model between two passes, with its size."""

    model: nn.Module
    parameters: int
    macs: int


def run(
    plan: Plan,
    catalogue: Catalogue,
    directory: Path,
    *,
    device: torch.device,
    progress: Progress,
    model: nn.Module | None = None,
    splits: Splits | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Carry out `plan`, write everything about it to `directory`, and give the compressed model and the report.

    Args:
        plan: what to do.
        catalogue: where the plan's components came from.
        directory: an empty directory.
        device: where passes compute.
        progress: told what goes on.
        model: what the caller brings where the plan names no source.
        splits: what the caller brings where the plan names no data.

    Raises:
        MbcompressError: data, weights or a pass's task turn out to be impossible.
    """
    torch.manual_seed(plan.seed)
    with progress.busy("load model and data"):
        loaded = _load_model(plan.model, model)
        splits = _load_data(plan, splits)
    shape = _image_shape(splits)
    _check_outputs(loaded, shape, splits)
    loaded.to(device)
    context = Context(splits.development(), _frozen(loaded), shape, device, plan.seed, progress)
    write_atomically(directory / "recipe.yaml", yaml.safe_dump(plan.to_mapping(), sort_keys=False))
    environment = describe_environment(catalogue, str(device), plan.seed)
    write_json(directory / "environment.json", environment)
    baseline, result, steps = _apply(plan, loaded, context, directory)
    comparisons = [
        _export_and_compare(runtime, baseline, result, splits, plan, directory, progress) for runtime in plan.export
    ]
    report = build_report(plan, splits, steps, comparisons, environment, directory)
    write_report(directory, report)
    write_manifest(directory)
    return result.model, report


def _load_model(source: ModelSource | None, model: nn.Module | None) -> nn.Module:
    if model is not None:
        return copy.deepcopy(model).eval()  # the caller's own stays as it is
    assert source is not None  # resolve() demands one of the two
    return source.load()


def _load_data(plan: Plan, splits: Splits | None) -> Splits:
    if splits is not None:
        return splits
    assert plan.data is not None  # resolve() demands one of the two
    assert plan.model is not None  # for a module of the caller's, the caller loads
    return plan.data.load(plan.model.input_shape, plan.seed)


def _check_outputs(model: nn.Module, shape: tuple[int, int, int], splits: Splits) -> None:
    """One forward pass on the CPU: the model must take these images and have an output for every label."""
    try:
        with torch.no_grad():
            logits = model.cpu()(torch.zeros(2, *shape))
    except RuntimeError as error:
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


def _image_shape(splits: Splits) -> tuple[int, int, int]:
    channels, height, width = splits.test.pixels.shape[1:]
    return channels, height, width


def _shape_of(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__


def _frozen(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).eval().requires_grad_(False)


def _apply(
    plan: Plan, model: nn.Module, context: Context, directory: Path
) -> tuple[Stage, Stage, list[dict[str, Any]]]:
    """Baseline, result, and a record of each pass; the record of the loaded model comes first."""
    stage = _stage(model, context)
    baseline = replace(stage, model=context.baseline)
    traits = INITIAL
    records = [{"name": "loaded", "seconds": 0.0, "metrics": _metrics(stage, context)}]
    for number, step in enumerate(plan.passes, start=1):
        context = replace(context, metrics={})
        torch.manual_seed(plan.seed + number)
        start = time.perf_counter()
        changed = step.apply(stage.model, context)
        seconds = time.perf_counter() - start
        if not isinstance(changed, nn.Module):
            raise TypeError(f"pass {step.name!r} must return an nn.Module, got {type(changed).__name__}")
        stage = _stage(changed.eval(), context)
        traits = (traits - step.destroys) | step.provides
        record = {
            "name": step.name,
            "seconds": seconds,
            "metrics": {**_metrics(stage, context), **context.metrics},
        }
        records.append(record)
        _write_step(directory / "steps" / f"{number:02}-{step.name}", plan, stage.model, traits, record)
        if number == plan.measure.baseline_after:
            baseline = replace(stage, model=_frozen(stage.model))
            context = replace(context, baseline=baseline.model)
    return baseline, stage, records


def _stage(model: nn.Module, context: Context) -> Stage:
    return Stage(model, count_parameters(model), count_macs(model, context.example()))


def _metrics(stage: Stage, context: Context) -> dict[str, Any]:
    score = evaluate(stage.model, context.data.validation, context.data.normalization, context.device)
    return {
        "validation_top1": score.top1,
        "validation_images": score.count,
        "parameters": stage.parameters,
        "macs": stage.macs,
    }


def _write_step(
    directory: Path, plan: Plan, model: nn.Module, traits: frozenset[Trait], record: dict[str, Any]
) -> None:
    """Metrics always; weights and architecture where the model is a plain module, from which both can be read back."""
    directory.mkdir(parents=True)
    write_json(directory / "metrics.json", record)
    if Trait.FLOAT in traits:
        state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
        write_atomically(directory / "state.safetensors", save(state))
        source = plan.to_mapping().get("model")
        write_json(directory / "architecture.json", {"schema": 1, "source": source, "layers": describe(model)})


def _export_and_compare(
    runtime: Runtime,
    baseline: Stage,
    result: Stage,
    splits: Splits,
    plan: Plan,
    directory: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Both models as files of `runtime`, and what measuring them gave."""
    shape = _image_shape(splits)
    named = {"baseline": baseline, "model": result}
    artifacts = {}
    for name, stage in progress.track(named.items(), f"export to {runtime.name}", len(named)):
        path = directory / f"{name}{runtime.suffix}"
        runtime.export(stage.model.cpu(), shape, path)
        artifacts[name] = Artifact(path, stage.parameters, stage.macs)
    return compare(
        runtime,
        artifacts["baseline"],
        artifacts["model"],
        splits.test,
        splits.normalization,
        plan.measure,
        progress,
    )
