"""Assembles report.json from what a run measured. Every figure stands here once; renderings only read it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mbcompress.files import describe_file

if TYPE_CHECKING:
    from pathlib import Path

    from mbcompress.contract.runtimes import Runtime
    from mbcompress.data.splits import Splits
    from mbcompress.recipe.plan import Plan

SCHEMA = 2


def build_report(
    plan: Plan,
    splits: Splits,
    outputs: int,
    records: list[dict[str, Any]],
    comparisons: list[dict[str, Any]],
    runtimes: list[dict[str, Any]],
    environment: dict[str, Any],
    directory: Path,
) -> dict[str, Any]:
    """The report of a run.

    Args:
        plan: what was run.
        splits: the data it was run on.
        outputs: how many logits the model gives for an image, which may be more than there are classes.
        records: of the loaded model, then of each pass: {'name', 'seconds', 'metrics'}.
        comparisons: figures of `measurement.compare` for each runtime, in the recipe's order.
        runtimes: what `measurement.across` gave where there are several runtimes.
        environment: what environment.json holds.
        directory: where the exported files are.
    """
    first = comparisons[0]
    loaded, *passes = records
    mapping = plan.to_mapping()
    return {
        "schema": SCHEMA,
        "name": plan.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": mapping.get("model"),
        "data": {
            **mapping.get("data", {}),
            "images": {name: len(getattr(splits, name)) for name in ("train", "calibration", "validation", "test")},
            "sha256": splits.fingerprint(),
        },
        "preprocessing": {
            "input": "image",
            "shape": ["N", *splits.test.pixels.shape[1:]],
            "mean": list(splits.normalization.mean),
            "std": list(splits.normalization.std),
            "formula": splits.normalization.formula,
            "classes": list(splits.classes),
            "outputs": outputs,
        },
        **first,
        "metric_summaries": {metric.name: metric.summary() for metric in plan.metrics},
        "measure": mapping["measure"],
        "environment": environment,
        "budget": [gate for each in zip(plan.export, comparisons, strict=True) for gate in _gates(plan, *each)],
        "loaded": loaded["metrics"],
        "passes": passes,
        "other_runtimes": comparisons[1:],
        "runtimes": runtimes,
        "artifacts": _artifacts(plan, directory),
        "documents": _documents(passes, directory),
    }


def _documents(passes: list[dict[str, Any]], directory: Path) -> list[dict[str, Any]]:
    """What passes have written beside their models."""
    return [
        {"pass": each["name"], **describe_file(directory / "passes" / f"{number:02}-{each['name']}" / name, directory)}
        for number, each in enumerate(passes, start=1)
        for name in each.get("files", ())
    ]


def _artifacts(plan: Plan, directory: Path) -> list[dict[str, Any]]:
    return [
        {"role": role, "runtime": runtime.name, **describe_file(directory / plan.artifact(stem, runtime), directory)}
        for role, stem in (("result", "model"), ("baseline", "baseline"))
        for runtime in plan.export
    ]


def _gates(plan: Plan, runtime: Runtime, comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """Each limit of the budget that the recipe sets: what was allowed, what a runtime measured, whether it was met."""
    before, after, budget = comparison["baseline"], comparison["result"], plan.budget
    convolutions = after["convolutions"]
    drop = 100 * (before["accuracy"]["top1"]["value"] - after["accuracy"]["top1"]["value"])
    measured = {
        "accuracy_drop": drop,
        "size_ratio": comparison["ratio"]["size"],
        "latency_ratio": comparison["ratio"]["latency"],
        "int8_share": convolutions["int8"] / convolutions["total"] if convolutions["total"] else 0.0,
    }
    gates = []
    for name, value in measured.items():
        limit = getattr(budget, name)
        if limit is not None:
            met = value <= limit + 1e-9 if name == "accuracy_drop" else value >= limit
            gate = {"name": name, "runtime": runtime.name, "limit": limit, "measured": value, "met": met}
            gates.append(gate)
    return gates
