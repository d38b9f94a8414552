"""Build the content of report.json from the figures of a run; the renderings only read it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mbcompress.files import describe_file

if TYPE_CHECKING:
    from pathlib import Path

    from mbcompress.contract.runtimes import Runtime
    from mbcompress.data.splits import Splits
    from mbcompress.recipe.model import Recipe

SCHEMA = 2


def build_report(
    plan: Recipe,
    splits: Splits,
    outputs: int,
    records: list[dict[str, Any]],
    comparisons: list[dict[str, Any]],
    runtimes: list[dict[str, Any]],
    environment: dict[str, Any],
    directory: Path,
) -> dict[str, Any]:
    """Build the report of a run.

    Args:
        plan: the resolved recipe.
        splits: the data.
        outputs: number of logits per image, which may exceed the number of classes.
        records: {'name', 'seconds', 'metrics'} of the loaded model, then of each pass.
        comparisons: the figures of `measure.compare` for each runtime, in the recipe's order.
        runtimes: the figures of `measure.compare_runtimes` if there are several runtimes.
        environment: the content of environment.json.
        directory: holds the exported files.
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
        "preprocessing": _preprocessing(splits, outputs),
        **first,
        "metric_summaries": {metric.name: metric.summary() for metric in plan.metrics},
        "measure": mapping["measure"],
        "environment": environment,
        "budget": [gate for pair in zip(plan.export, comparisons, strict=True) for gate in _gates(plan, *pair)],
        "loaded": loaded["metrics"],
        "passes": passes,
        "other_runtimes": comparisons[1:],
        "runtimes": runtimes,
        "artifacts": _artifacts(plan, directory),
        "documents": _documents(passes, directory),
    }


def _preprocessing(splits: Splits, outputs: int) -> dict[str, Any]:
    return {
        "input": "image",
        "shape": ["N", *splits.test.pixels.shape[1:]],
        "mean": list(splits.normalization.mean),
        "std": list(splits.normalization.std),
        "formula": splits.normalization.formula,
        "classes": list(splits.classes),
        "outputs": outputs,
    }


def _documents(passes: list[dict[str, Any]], directory: Path) -> list[dict[str, Any]]:
    """The documents of the passes."""
    return [
        {"pass": each["name"], **describe_file(directory / "passes" / f"{number:02}-{each['name']}" / name, directory)}
        for number, each in enumerate(passes, start=1)
        for name in each.get("files", ())
    ]


def _artifacts(plan: Recipe, directory: Path) -> list[dict[str, Any]]:
    return [
        {"role": role, "runtime": runtime.name, **describe_file(directory / plan.artifact(stem, runtime), directory)}
        for role, stem in (("result", "model"), ("baseline", "baseline"))
        for runtime in plan.export
    ]


def _gates(plan: Recipe, runtime: Runtime, comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """The limits of the budget that the recipe sets, with the value measured in a runtime."""
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
            gates.append({"name": name, "runtime": runtime.name, "limit": limit, "measured": value, "met": met})
    return gates
