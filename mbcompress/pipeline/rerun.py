"""Whether two runs of one recipe came to the same: accuracy, weights and files; and where their machines differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mbcompress.checkpoint.stored import LARGEST_JSON, STATE, parse_json, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from mbcompress.checkpoint.stored import Manifest

SIDES = ("baseline", "result")
ENVIRONMENT = ("python", "platform", "libraries", "plugins", "cpu", "torch_threads", "processes", "device")
"""What of environment.json can change the last bit of a weight."""


@dataclass(frozen=True)
class Finding:
    """One thing that was compared, in words."""

    what: str
    first: str
    second: str

    @property
    def same(self) -> bool:
        """Whether it came out the same."""
        return self.first == self.second


def compare_runs(first: Path, second: Path) -> list[Finding]:
    """What should be the same in two runs of one recipe: accuracy, and the bytes of weights and artifacts.

    Args:
        first: a run directory.
        second: the run directory of its repetition.

    Raises:
        MbcompressError: one of them is no run directory, or was changed.
    """
    manifests = [read_manifest(path) for path in (first, second)]
    reports = [_document(manifest, "report.json") for manifest in manifests]
    findings = [
        Finding(f"top-1 of the {side}", *(_correct(report[side]["accuracy"]["top1"]) for report in reports))
        for side in SIDES
    ]
    names = [{name for name in manifest.files if _is_compared(name, reports[0])} for manifest in manifests]
    for name in sorted(set.union(*names)):
        entries = [manifest.files.get(name) for manifest in manifests]
        findings.append(Finding(name, *(entry.sha256[:12] if entry else "absent" for entry in entries)))
    return findings


def compare_environments(first: Path, second: Path) -> list[Finding]:
    """Where the machines and libraries of two runs differ, in what can change the last bit of a weight."""
    ours, theirs = (_document(read_manifest(path), "environment.json") for path in (first, second))
    found = [Finding(name, _text(ours.get(name)), _text(theirs.get(name))) for name in ENVIRONMENT]
    return [finding for finding in found if not finding.same]


def _document(manifest: Manifest, name: str) -> Any:
    return parse_json(manifest.read(manifest.root / name, LARGEST_JSON), manifest.root / name)


def _is_compared(name: str, report: dict[str, Any]) -> bool:
    return name.endswith(f"/{STATE}") or name in {artifact["path"] for artifact in report["artifacts"]}


def _correct(top1: dict[str, Any]) -> str:
    return f"{top1['k']} of {top1['n']}"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return "; ".join(map(_text, value)) if isinstance(value, list) else str(value)
