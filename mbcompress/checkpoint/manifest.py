"""manifest.json: all files of a run with their SHA-256. Does not need torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from mbcompress.contract.options import Options
from mbcompress.contract.validation import first_problem
from mbcompress.errors import MbcompressError, brief, shown
from mbcompress.files import LARGEST_JSON, describe_file, parse_json, read_bounded, write_json

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"
T = TypeVar("T", bound=Options)


class FileEntry(Options):
    """One file in a manifest."""

    path: str
    bytes: int
    sha256: str


class ManifestFile(Options):
    """The content of manifest.json."""

    files: list[FileEntry]


@dataclass(frozen=True)
class Manifest:
    """The files of a finished run."""

    root: Path
    files: dict[str, FileEntry]

    def read(self, path: Path, limit: int = LARGEST_JSON) -> bytes:
        """Return the verified content of a file below `root`.

        Raises:
            MbcompressError: the file is missing, not listed, or was modified.
        """
        content = read_bounded(path, limit)
        entry = self.files.get(path.relative_to(self.root).as_posix())
        if entry is None:
            raise MbcompressError(f"{path}: is not listed in {self.root / MANIFEST}; the run did not write it")
        digest = hashlib.sha256(content).hexdigest()
        if digest != entry.sha256:
            raise MbcompressError(
                f"{path}: was changed after the run: {MANIFEST} has sha256 {brief(entry.sha256[:12])}…, "
                f"the file has {digest[:12]}…"
            )
        return content


def read_manifest(root: Path) -> Manifest:
    """Read the manifest of the run at `root`.

    Raises:
        MbcompressError: the manifest is missing or damaged.
    """
    path = root / MANIFEST
    content = validated(ManifestFile, parse_json(read_bounded(path, LARGEST_JSON), path), path)
    return Manifest(root, {entry.path: entry for entry in content.files})


def write_manifest(root: Path) -> None:
    """Write a manifest of all files below `root`, sorted by name."""
    files = [describe_file(path, root) for path in sorted(root.rglob("*")) if path.is_file()]
    write_json(root / MANIFEST, {"files": files})


def validated(kind: type[T], document: Any, path: Path) -> T:
    """Validate the document from `path` as `kind`.

    Raises:
        MbcompressError: a field is invalid.
    """
    if not isinstance(document, dict):
        raise MbcompressError(f"{path}: must hold a mapping, got {shown(document)}")
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise MbcompressError(f"{path}: {first_problem(error, kind)}") from None
