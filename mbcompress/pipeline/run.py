"""Run a plan: preflight, passes, export, measurement, report. Imports torch."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import yaml

from mbcompress.checkpoint.manifest import write_manifest
from mbcompress.files import write_atomically, write_json
from mbcompress.measure.compare import Artifact, compare
from mbcompress.measure.runtimes import compare_runtimes
from mbcompress.pipeline.executor import Executor
from mbcompress.pipeline.preflight import preflight
from mbcompress.report.build import build_report
from mbcompress.report.render import write_report

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from mbcompress.cache.store import Store
    from mbcompress.pipeline.executor import SizedModel
    from mbcompress.pipeline.notifier import Notifier
    from mbcompress.pipeline.preflight import Inputs, Setup
    from mbcompress.recipe.model import Recipe
    from mbcompress.registry.discovery import Registry

Report = dict[str, Any]


def run(
    plan: Recipe, registry: Registry, inputs: Inputs, directory: Path, notifier: Notifier, store: Store | None = None
) -> tuple[nn.Module, Report]:
    """Run `plan`, write all files to `directory`, and return the compressed model and the report.

    With several processes, all apply the passes; only the main process exports, measures and reports. The others need
    their own temporary `directory` and return an empty report.

    Args:
        plan: the resolved recipe.
        registry: the registry of the plan's components.
        inputs: device, progress, and objects that replace parts of the recipe.
        directory: an empty directory.
        notifier: called after every pass.
        store: the cache; None to compute all passes.

    Raises:
        MbcompressError: data or weights cannot be used, or a pass cannot reach its target.
    """
    setup = preflight(plan, registry, inputs)
    is_main = inputs.process_group.is_main_process
    if is_main:
        write_atomically(directory / "recipe.yaml", yaml.safe_dump(plan.to_mapping(), sort_keys=False))
        write_json(directory / "environment.json", dict(notifier.run.environment))
    executor = Executor(plan, registry, directory, setup.model, setup.context, store)
    records: list[Report] = []
    baseline: list[Artifact] = []
    for number, record in enumerate(chain([executor.loaded], executor.execute())):
        records.append(record)
        if number:
            notifier.pass_finished(number, record["name"], record["metrics"], record["seconds"])
        if number == plan.measure.baseline_after:  # with 0, a failing export fails before the passes
            model = executor.rebase()
            baseline = _export("baseline", model, setup, directory) if is_main else []
    if not is_main:
        return executor.current.model, {}
    result = _export("model", executor.current, setup, directory)
    comparisons, runtimes = _measure(setup, baseline, result)
    environment = dict(notifier.run.environment)
    report = build_report(plan, setup.splits, setup.outputs, records, comparisons, runtimes, environment, directory)
    write_report(directory, report)
    write_manifest(directory)
    return executor.current.model, report


def _export(name: str, sized: SizedModel, setup: Setup, directory: Path) -> list[Artifact]:
    """Move a model to the CPU and export it for each runtime, in the recipe's order."""
    plan, context = setup.plan, setup.context
    model = sized.model.cpu()
    artifacts = []
    for runtime in context.progress.track(plan.export, f"export {name}", len(plan.export)):
        path = directory / plan.artifact(name, runtime)
        runtime.export(model, context.input_shape, path)
        artifacts.append(Artifact(path, sized.parameters, sized.macs))
    return artifacts


def _measure(setup: Setup, baseline: list[Artifact], result: list[Artifact]) -> tuple[list[Report], list[Report]]:
    """Measure each runtime, and compare the runtimes if there are several."""
    plan, splits, progress = setup.plan, setup.splits, setup.context.progress
    comparisons = [
        compare(runtime, before, after, splits.test, splits.normalization, plan.measure, setup.metrics, progress)
        for runtime, before, after in zip(plan.export, baseline, result, strict=True)
    ]
    runtimes: list[Report] = []
    if len(plan.export) > 1:
        paths = [artifact.path for artifact in result]
        runtimes = compare_runtimes(plan.export, paths, comparisons, setup.context.input_shape, plan.measure, progress)
    return [comparison.figures for comparison in comparisons], runtimes
