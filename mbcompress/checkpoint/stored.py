"""Steps of a run as files: where they are, that they are what the run wrote, and what describes the model. No torch.

A step holds `metrics.json`, `architecture.json`, `state.safetensors` and, for a model that no source can build again,
`graph.json`. Nothing of it can execute code. What the manifest of the run lists is compared with its hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from mbcompress.contract.options import Options
from mbcompress.contract.validation import first_problem
from mbcompress.errors import MbcompressError, brief, first_line, shown
from mbcompress.pipeline.run_directory import MANIFEST

ARCHITECTURE, GRAPH, STATE, METRICS = "architecture.json", "graph.json", "state.safetensors", "metrics.json"
STEPS = "steps"
STEP_NAME = re.compile(r"(\d+)-.+")
LARGEST_JSON = 64 * 2**20
LARGEST_STATE = 4 * 2**30
T = TypeVar("T", bound=Options)

Size = Annotated[int, Field(ge=1, le=2**24)]


class Architecture(Options):
    """architecture.json: how the model of a step can be built again.

    `form` says from what: the model `source` and the sizes of its `layers`; the stored `graph`; a `module` of the
    caller's and the sizes of its layers; or nothing, and `reason` says why not. `bypassed` names modules that were
    replaced by `nn.Identity`. `constants` are tensors that a graph reads and the state dict of the module does not
    have.
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


class FileEntry(Options):
    """One file of a manifest."""

    path: str
    bytes: int
    sha256: str


class ManifestFile(Options):
    """manifest.json."""

    files: list[FileEntry]


@dataclass(frozen=True)
class Manifest:
    """What a finished run consists of."""

    root: Path
    files: dict[str, FileEntry]

    def read(self, path: Path, limit: int) -> bytes:
        """Content of a file below `root`, if it is what the run wrote.

        Raises:
            MbcompressError: it is missing, not listed, or was changed.
        """
        content = read_bounded(path, limit)
        entry = self.files.get(path.relative_to(self.root).as_posix())
        if entry is None:
            raise MbcompressError(f"{path}: is not listed in {self.root / MANIFEST}; it is not what the run wrote")
        found = hashlib.sha256(content).hexdigest()
        if found != entry.sha256:
            raise MbcompressError(
                f"{path}: was changed after the run: {MANIFEST} has sha256 {brief(entry.sha256[:12])}…, "
                f"found {found[:12]}…"
            )
        return content


@dataclass(frozen=True)
class StoredStep:
    """One step, open for reading; `manifest` is None for a step that was taken out of its run."""

    path: Path
    manifest: Manifest | None

    def read(self, name: str, limit: int = LARGEST_JSON) -> bytes:
        """One of the step's files, verified."""
        path = self.path / name
        return self.manifest.read(path, limit) if self.manifest else read_bounded(path, limit)

    def read_json(self, name: str) -> Any:
        """One of the step's documents, verified."""
        return parse_json(self.read(name), self.path / name)

    def architecture(self) -> Architecture:
        """How the model can be built again."""
        return _validated(Architecture, self.read_json(ARCHITECTURE), self.path / ARCHITECTURE)


def open_step(path: str | Path) -> StoredStep:
    """A step directory, or the last step of a run directory: its final model.

    Raises:
        MbcompressError: `path` is neither.
    """
    found = Path(path).expanduser().absolute()
    if not found.exists():
        raise MbcompressError(f"{path}: no such directory; name a run directory, or a step like RUN/steps/01-prune")
    if (found / ARCHITECTURE).is_file():
        root = found.parent.parent
        listed = found.parent.name == STEPS and (root / MANIFEST).is_file()
        return StoredStep(found, read_manifest(root) if listed else None)
    if not (found / STEPS).is_dir():
        raise MbcompressError(f"{path}: is neither a run directory (no {STEPS}/) nor a step (no {ARCHITECTURE})")
    steps = list_steps(found)
    if not steps:
        raise MbcompressError(f"{path}: is a run directory without steps")
    return StoredStep(steps[-1], read_manifest(found))


def list_steps(run: Path) -> list[Path]:
    """The step directories of a run, in order."""
    numbered = [(STEP_NAME.fullmatch(path.name), path) for path in (run / STEPS).iterdir() if path.is_dir()]
    return [path for _, path in sorted((int(match[1]), path) for match, path in numbered if match)]


def read_manifest(root: Path) -> Manifest:
    """The manifest of a run.

    Raises:
        MbcompressError: there is none, or it is not one.
    """
    path = root / MANIFEST
    content = _validated(ManifestFile, parse_json(read_bounded(path, LARGEST_JSON), path), path)
    return Manifest(root, {entry.path: entry for entry in content.files})


def read_bounded(path: Path, limit: int) -> bytes:
    """A regular file's content.

    Raises:
        MbcompressError: it is missing, unreadable or larger than `limit` bytes.
    """
    try:
        if not path.is_file():
            raise MbcompressError(f"{path}: is not a file" if path.exists() else f"{path}: no such file")
        if (size := path.stat().st_size) > limit:
            raise MbcompressError(f"{path}: has {size} bytes, must have at most {limit}")
        return path.read_bytes()
    except OSError as error:
        raise MbcompressError(f"{path}: cannot be read: {error.strerror or error}") from None


def parse_json(content: bytes, path: Path) -> Any:
    """The document that `content` holds; `path` is for the error message."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # also UTF-8 errors and integers of thousands of digits
        raise MbcompressError(f"{path}: is not JSON: {first_line(error)}") from None


def _validated(kind: type[T], document: Any, path: Path) -> T:
    if not isinstance(document, dict):
        raise MbcompressError(f"{path}: must hold a mapping, got {shown(document)}")
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise MbcompressError(f"{path}: {first_problem(error, kind)}") from None
