"""The directory of each pass of a run: where it is, what it holds, and that it is unchanged. No torch.

It holds `metrics.json`, `architecture.json`, `state.safetensors` and, for a model stored as a graph, `graph.json`. None
of them can execute code. Files are compared with the hashes in the run's manifest.
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
    """architecture.json: how to build the model again.

    `form` says from what: the options of a model `source` and the sizes of its `layers`; a `graph`; a `module` that
    the caller provides and the sizes of its layers; or `none`, for the `reason` given. `bypassed` names modules that
    are `nn.Identity` now. `constants` are tensors of a graph that are not in the module's state dict.
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
        """Position in the recipe, from 1; 0 for the model as it was loaded."""
        match = NAME.fullmatch(self.path.name)
        return int(match[1]) if match else 0

    def read(self, name: str, limit: int = LARGEST_JSON) -> bytes:
        """Content of a file, verified."""
        path = self.path / name
        return self.manifest.read(path, limit) if self.manifest else read_bounded(path, limit)

    def read_json(self, name: str) -> Any:
        """Content of a JSON file, verified."""
        return parse_json(self.read(name), self.path / name)

    def architecture(self) -> Architecture:
        """How to build the model again."""
        return validated(Architecture, self.read_json(ARCHITECTURE), self.path / ARCHITECTURE)


def open_pass(path: str | Path) -> PassDirectory:
    """The directory of a pass, or of the last pass of a run directory: its final model.

    Raises:
        MbcompressError: `path` is neither.
    """
    full = Path(path).expanduser().absolute()
    if not full.exists():
        raise MbcompressError(
            f"{path}: no such directory; name a run directory, or a pass of one like RUN/{PASSES}/01-prune"
        )
    if (full / ARCHITECTURE).is_file():
        root = full.parent.parent
        listed = full.parent.name in (PASSES, EARLIER) and (root / MANIFEST).is_file()
        return PassDirectory(full, read_manifest(root) if listed else None)
    if not (full / PASSES).is_dir() and not (full / EARLIER).is_dir():
        raise MbcompressError(
            f"{path}: is neither a run directory (no {PASSES}/) nor a pass of one (no {ARCHITECTURE})"
        )
    directories = list_passes(full)
    if not directories:
        raise MbcompressError(f"{path}: is a run directory without passes")
    return PassDirectory(directories[-1], read_manifest(full))


def list_passes(run: Path) -> list[Path]:
    """The directories of the passes of a run, in order; none if it has no such directory."""
    folder = run / PASSES if (run / PASSES).is_dir() else run / EARLIER
    if not folder.is_dir():
        return []
    numbered = [(NAME.fullmatch(path.name), path) for path in folder.iterdir() if path.is_dir()]
    return [path for _, path in sorted((int(match[1]), path) for match, path in numbered if match)]
