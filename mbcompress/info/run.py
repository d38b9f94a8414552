"""Describe a run directory: passes, figures, and files that were modified since."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from mbcompress.checkpoint.manifest import MANIFEST, Manifest, read_manifest
from mbcompress.checkpoint.pass_directory import ARCHITECTURE, METRICS, PassDirectory, list_passes
from mbcompress.errors import MbcompressError, shown
from mbcompress.files import LARGEST_JSON, parse_json, read_bounded, sha256
from mbcompress.info.passes import ENVIRONMENT, recipe_passes

REPORT = "report.json"


def describe_run(path: Path) -> dict[str, Any]:
    """Describe figures, recipe, versions, passes, artifacts, and modified files of a run.

    Raises:
        MbcompressError: the run is incomplete or its files are damaged.
    """
    root = path.absolute()
    manifest = read_manifest(root)
    changed = changed_files(manifest)
    report, environment = (_document(root / name) for name in (REPORT, ENVIRONMENT))
    return {
        "kind": "run",
        "path": str(path),
        "name": report.get("name"),
        "created": report.get("created"),
        "architecture": report.get("model"),
        "data": _without(report.get("data"), "sha256"),
        "preprocessing": report.get("preprocessing"),
        "recipe": recipe_passes(root),
        "passes": [_pass(path, manifest) for path in list_passes(root)],
        "figures": [_figures(side, report.get(side)) for side in ("baseline", "result")],
        "ratio": _without(report.get("ratio"), "latency_by_threads"),
        "artifacts": report.get("artifacts", []),
        "libraries": environment.get("libraries"),
        "seed": environment.get("seed"),
        "files": {"listed": len(manifest.files), "changed": changed},
    }


def changed_files(manifest: Manifest) -> list[str]:
    """Return the names of missing or modified files."""
    return [name for name, entry in manifest.files.items() if not _is_as_listed(manifest.root, name, entry.sha256)]


def _is_as_listed(root: Path, name: str, digest: str) -> bool:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise MbcompressError(f"{root / MANIFEST}: lists {shown(name)}, which is outside the run")
    path = root / name
    return path.is_file() and sha256(path) == digest


def _document(path: Path) -> dict[str, Any]:
    content = parse_json(read_bounded(path, LARGEST_JSON), path)
    if not isinstance(content, dict):
        raise MbcompressError(f"{path}: must hold a mapping")
    return content


def _pass(path: Path, manifest: Manifest) -> dict[str, Any]:
    """Describe one pass, for a table row."""
    metrics = _document(path / METRICS)
    figures = metrics.get("metrics")
    if not isinstance(figures, dict):
        figures = {}
    row = {"pass": path.name, "seconds": metrics.get("seconds")}
    row |= {key: figures.get(key) for key in ("validation_top1", "parameters", "macs")}
    if (path / ARCHITECTURE).is_file():
        architecture = PassDirectory(path, manifest).architecture()
        row |= {"stored_as": architecture.form, "traits": architecture.traits}
    return row


def _figures(side: str, figures: Any) -> dict[str, Any]:
    """Describe the baseline or the result, for a table row."""

    def at(*path: str) -> Any:
        value = figures
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    return {
        "model": side,
        "top1": at("accuracy", "top1", "value"),
        "bytes": at("size_bytes"),
        "parameters": at("parameters"),
        "macs": at("macs"),
        "median_ms": at("latency", "median_ms"),
        "int8_convolutions": at("convolutions", "int8"),
        "convolutions": at("convolutions", "total"),
    }


def _without(mapping: Any, *keys: str) -> Any:
    return {key: value for key, value in mapping.items() if key not in keys} if isinstance(mapping, dict) else mapping
