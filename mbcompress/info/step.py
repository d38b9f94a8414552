"""One step of a run: its model, its figures, and the pass that made it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from mbcompress import recipe as recipes
from mbcompress.checkpoint.stored import (
    LARGEST_JSON,
    LARGEST_STATE,
    METRICS,
    STATE,
    STEP_NAME,
    StoredStep,
    list_steps,
    parse_json,
)
from mbcompress.errors import MbcompressError
from mbcompress.info.tensors import describe_safetensors

if TYPE_CHECKING:
    from pathlib import Path

RECIPE, ENVIRONMENT = "recipe.yaml", "environment.json"
KINDS = {"out_channels": "convolutions", "out_features": "linear", "num_features": "batch_norms"}


def describe_step(step: StoredStep) -> dict[str, Any]:
    """Form, traits, sizes and figures of a step; its files are compared with the run's manifest.

    Raises:
        MbcompressError: a file is missing, damaged or was changed.
    """
    architecture = step.architecture()
    metrics = step.read_json(METRICS)
    if not isinstance(metrics, dict):
        raise MbcompressError(f"{step.path / METRICS}: must hold a mapping")
    layers = architecture.layers or {}
    described = {
        "kind": "step",
        "path": str(step.path),
        "pass": metrics.get("name"),
        "of": f"step {_number(step)} of {len(list_steps(step.manifest.root))}" if step.manifest else "no run",
        "stored_as": architecture.form,
        "reason": architecture.reason,
        "traits": architecture.traits,
        "input_shape": list(architecture.input_shape),
        "architecture": architecture.source,
        **_how_it_was_made(step),
        "layer_counts": dict(Counter(_kind(sizes) for sizes in layers.values())),
        "metrics": metrics.get("metrics", {}),
        "seconds": metrics.get("seconds"),
        "layers": [{"name": name, **sizes} for name, sizes in layers.items()],
    }
    if architecture.form == "none":
        return described
    step.read(STATE, LARGEST_STATE)  # compares its hash
    state = describe_safetensors(step.path / STATE)
    return {
        **described,
        "state": {key: value for key, value in state.items() if key not in ("kind", "path", "parameters")},
    }


def passes_of(root: Path) -> list[dict[str, Any]]:
    """The passes of a run with their options, as its recipe.yaml has them; none where there is none."""
    path = root / RECIPE
    passes = recipes.read(path).data.get("passes") if path.is_file() else None
    named = [each for each in passes if isinstance(each, dict)] if isinstance(passes, list) else []
    return [{"pass": name, "options": options} for each in named for name, options in each.items()]


def _how_it_was_made(step: StoredStep) -> dict[str, Any]:
    """The options of the pass and the versions of libraries, where the step is still in its run."""
    if step.manifest is None:
        return {}
    root = step.manifest.root
    environment = parse_json(step.manifest.read(root / ENVIRONMENT, LARGEST_JSON), root / ENVIRONMENT)
    number, passes = _number(step), passes_of(root)
    return {
        "options": passes[number - 1]["options"] if 0 < number <= len(passes) else {},
        "libraries": environment.get("libraries") if isinstance(environment, dict) else {},
    }


def _number(step: StoredStep) -> int:
    match = STEP_NAME.fullmatch(step.path.name)
    return int(match[1]) if match else 0


def _kind(sizes: dict[str, int]) -> str:
    return next((word for key, word in KINDS.items() if key in sizes), "others")
