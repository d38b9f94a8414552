"""The directory of a pass: find it and read its verified files. Does not need torch.

It contains `metrics.json`, `architecture.json`, `state.safetensors` and, for a model stored as a graph, `graph.json`.
None of them can execute code. Files are verified against the hashes in the run's manifest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from mbcompress.checkpoint.manifest import MANIFEST, Manifest, read_manifest, validated
from mbcompress.contract.options import Options
from mbcompress.errors import MbcompressError
from mbcompress.files import LARGEST_JSON, parse_json, read_bounded

ARCHITECTURE, GRAPH, STATE, METRICS = "architecture.json", "graph.json", "state.safetensors", "metrics.json"
PASSES = "passes"
EARLIER = "steps"
"""The name of `passes` in runs of mbcompress 0.1 with reports of schema 1."""

NAME = re.compile(r"(\d+)-.+")
LARGEST_STATE = 4 * 2**30

Size = Annotated[int, Field(ge=1, le=2**24)]


class Architecture(Options):
    """architecture.json: how to rebuild the model.

    `form` is one of 'source' (options of a model `source` and sizes of its `layers`), 'graph', 'module' (a module from
    the caller and sizes of its `layers`), or 'none' (not loadable, see `reason`). `bypassed` names modules replaced
    with `nn.Identity`. `constants` are tensors of the graph that are not in the module's state dict.
    """

    version: Literal[1] = Field(alias="schema")
    form: Literal["source", "graph", "module", "none"]
    reason: str = ""
    input_shape: tuple[Size, Size, Size]
    traits: list[str]
    source: dict[str, Any] | None
    layers: dict[str, dict[str, Size]] | None
    bypassed: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()


@dataclass(frozen=True)
class PassDirectory:
    """The directory of one pass; `manifest` is None outside a run."""

    path: Path
    manifest: Manifest | None

    @property
    def number(self) -> int:
        """1-based position in the recipe; 0 for the loaded model."""
        match = NAME.fullmatch(self.path.name)
        return int(match[1]) if match else 0

    def read(self, name: str, limit: int = LARGEST_JSON) -> bytes:
        """Return the verified content of a file."""
        path = self.path / name
        return self.manifest.read(path, limit) if self.manifest else read_bounded(path, limit)

    def read_json(self, name: str) -> Any:
        """Return the verified content of a JSON file."""
        return parse_json(self.read(name), self.path / name)

    def architecture(self) -> Architecture:
        """Read architecture.json."""
        return validated(Architecture, self.read_json(ARCHITECTURE), self.path / ARCHITECTURE)


def open_pass(path: str | Path) -> PassDirectory:
    """Open the directory of a pass, or of the last pass of a run directory.

    Raises:
        MbcompressError: `path` is neither.
    """
    full = Path(path).expanduser().absolute()
    if not full.exists():
        raise MbcompressError(
            f"{path}: no such directory; name a run directory, or a pass directory like RUN/{PASSES}/01-prune"
        )
    if (full / ARCHITECTURE).is_file():
        root = full.parent.parent
        listed = full.parent.name in (PASSES, EARLIER) and (root / MANIFEST).is_file()
        return PassDirectory(full, read_manifest(root) if listed else None)
    if not (full / PASSES).is_dir() and not (full / EARLIER).is_dir():
        raise MbcompressError(
            f"{path}: is neither a run directory (no {PASSES}/) nor a pass directory (no {ARCHITECTURE})"
        )
    directories = list_passes(full)
    if not directories:
        raise MbcompressError(f"{path}: is a run directory without passes")
    return PassDirectory(directories[-1], read_manifest(full))


def list_passes(run: Path) -> list[Path]:
    """Return the pass directories of a run, in order; empty if there are none."""
    folder = run / PASSES if (run / PASSES).is_dir() else run / EARLIER
    if not folder.is_dir():
        return []
    numbered = [(NAME.fullmatch(path.name), path) for path in folder.iterdir() if path.is_dir()]
    return [path for _, path in sorted((int(match[1]), path) for match, path in numbered if match)]
