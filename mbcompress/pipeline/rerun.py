"""Compare two runs of the same recipe: accuracy, weights, files and environments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mbcompress.checkpoint.manifest import read_manifest
from mbcompress.checkpoint.pass_directory import EARLIER, PASSES, STATE
from mbcompress.files import parse_json

if TYPE_CHECKING:
    from pathlib import Path

    from mbcompress.checkpoint.manifest import Manifest

SIDES = ("baseline", "result")
ENVIRONMENT = ("python", "platform", "libraries", "plugins", "cpu", "torch_threads", "processes", "device")
"""Entries of environment.json that can change bits of the weights."""


@dataclass(frozen=True)
class Finding:
    """One comparison, as text."""

    subject: str
    first: str
    second: str

    @property
    def same(self) -> bool:
        """Whether both are equal."""
        return self.first == self.second


def compare_runs(first: Path, second: Path) -> list[Finding]:
    """Compare accuracy, and the bytes of weights and artifacts, of two runs of the same recipe.

    Args:
        first: the original run directory.
        second: the run directory of the rerun.

    Raises:
        MbcompressError: one of them is not a run directory, or was modified.
    """
    manifests = [read_manifest(path) for path in (first, second)]
    reports = [_document(manifest, "report.json") for manifest in manifests]
    findings = [
        Finding(f"top-1 of the {side}", *(_correct(report[side]["accuracy"]["top1"]) for report in reports))
        for side in SIDES
    ]
    digests = [_digests(manifest, report) for manifest, report in zip(manifests, reports, strict=True)]
    for name in sorted({*digests[0], *digests[1]}):
        findings.append(Finding(name, *(digest.get(name, "absent")[:12] for digest in digests)))
    return findings


def compare_environments(first: Path, second: Path) -> list[Finding]:
    """Return the differences between two environments that can change bits of the weights."""
    one, other = (_document(read_manifest(path), "environment.json") for path in (first, second))
    findings = [Finding(name, _text(one.get(name)), _text(other.get(name))) for name in ENVIRONMENT]
    return [finding for finding in findings if not finding.same]


def _document(manifest: Manifest, name: str) -> Any:
    return parse_json(manifest.read(manifest.root / name), manifest.root / name)


def _digests(manifest: Manifest, report: dict[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of weights and artifacts by name; `steps/` of earlier versions becomes `passes/`."""
    artifacts = {artifact["path"] for artifact in report["artifacts"]}
    return {
        re.sub(rf"^{EARLIER}/", f"{PASSES}/", name): entry.sha256
        for name, entry in manifest.files.items()
        if name.endswith(f"/{STATE}") or name in artifacts
    }


def _correct(top1: dict[str, Any]) -> str:
    return f"{top1['k']} of {top1['n']}"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return "; ".join(map(_text, value)) if isinstance(value, list) else str(value)
