"""Describe a pass of a run: options, model and metrics."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from mbcompress import recipe as recipes
from mbcompress.checkpoint.pass_directory import LARGEST_STATE, METRICS, STATE, PassDirectory, list_passes
from mbcompress.errors import MbcompressError
from mbcompress.files import parse_json
from mbcompress.info.tensors import describe_safetensors

if TYPE_CHECKING:
    from pathlib import Path

RECIPE, ENVIRONMENT = "recipe.yaml", "environment.json"
KINDS = {"out_channels": "convolutions", "out_features": "linear", "num_features": "batch_norms"}


def describe_pass(directory: PassDirectory) -> dict[str, Any]:
    """Describe form, traits, sizes and metrics of a pass; its files are verified against the run's manifest.

    Raises:
        MbcompressError: a file is missing, damaged or modified.
    """
    architecture = directory.architecture()
    metrics = directory.read_json(METRICS)
    if not isinstance(metrics, dict):
        raise MbcompressError(f"{directory.path / METRICS}: must hold a mapping")
    layers = architecture.layers or {}
    described = {
        "kind": "pass",
        "path": str(directory.path),
        "pass": metrics.get("name"),
        "of": _position(directory),
        "stored_as": architecture.form,
        "reason": architecture.reason,
        "traits": architecture.traits,
        "input_shape": list(architecture.input_shape),
        "architecture": architecture.source,
        **_options_and_libraries(directory),
        "layer_counts": dict(Counter(_kind(sizes) for sizes in layers.values())),
        "metrics": metrics.get("metrics", {}),
        "seconds": metrics.get("seconds"),
        "layers": [{"name": name, **sizes} for name, sizes in layers.items()],
    }
    if architecture.form == "none":
        return described
    directory.read(STATE, LARGEST_STATE)  # verifies its hash
    state = describe_safetensors(directory.path / STATE)
    return {
        **described,
        "state": {key: value for key, value in state.items() if key not in ("kind", "path", "parameters")},
    }


def recipe_passes(root: Path) -> list[dict[str, Any]]:
    """Return the passes of a run with their options, from its recipe.yaml if it exists."""
    path = root / RECIPE
    passes = recipes.read(path).data.get("passes") if path.is_file() else None
    named = [each for each in passes if isinstance(each, dict)] if isinstance(passes, list) else []
    return [{"pass": name, "options": options} for each in named for name, options in each.items()]


def _position(directory: PassDirectory) -> str:
    if directory.manifest is None:
        return "no run"
    return f"pass {directory.number} of {len(list_passes(directory.manifest.root))}"


def _options_and_libraries(directory: PassDirectory) -> dict[str, Any]:
    """Return options and library versions, if the pass directory is inside a run."""
    if directory.manifest is None:
        return {}
    root = directory.manifest.root
    environment = parse_json(directory.manifest.read(root / ENVIRONMENT), root / ENVIRONMENT)
    number, passes = directory.number, recipe_passes(root)
    return {
        "options": passes[number - 1]["options"] if 0 < number <= len(passes) else {},
        "libraries": environment.get("libraries") if isinstance(environment, dict) else {},
    }


def _kind(sizes: dict[str, int]) -> str:
    return next((word for key, word in KINDS.items() if key in sizes), "others")
