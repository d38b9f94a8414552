"""Describe an artifact: a run, a pass, an ONNX file, weights, or zoo weights.

In: a path or zoo:NAME, and the registry for the latter. Out: a JSON-serializable dict. May import: checkpoint and the
rooms below it; torch only for PyTorch checkpoints.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbcompress.checkpoint.manifest import MANIFEST
from mbcompress.checkpoint.pass_directory import ARCHITECTURE, open_pass
from mbcompress.contract.zoo import PREFIX, Zoo
from mbcompress.errors import MbcompressError, unknown
from mbcompress.files import sha256
from mbcompress.info.onnx_file import describe_onnx
from mbcompress.info.passes import describe_pass
from mbcompress.info.run import describe_run
from mbcompress.info.tensors import CHECKPOINTS, describe_checkpoint, describe_safetensors

if TYPE_CHECKING:
    from mbcompress.registry.registry import Registry


def describe_artifact(reference: str, registry: Registry) -> dict[str, Any]:
    """Describe kind, size and origin of an artifact as a JSON-serializable dict.

    Args:
        reference: a path, or zoo:NAME.
        registry: provides the zoos of model sources.

    Raises:
        MbcompressError: the artifact is damaged or of an unknown kind.
    """
    if reference.startswith(PREFIX):
        return _describe_zoo(reference, registry)
    path = Path(reference).expanduser()
    try:
        if path.is_dir():
            return _describe_directory(path)
        if not path.is_file():
            problem = "is neither a file nor a directory" if path.exists() else "no such file or directory"
            raise MbcompressError(f"{reference}: {problem}; for bundled weights, use {PREFIX}NAME")
    except OSError as error:
        raise MbcompressError(f"{reference[:100]}: cannot be read: {error.strerror}") from None
    match path.suffix:
        case ".onnx":
            return describe_onnx(path)
        case ".safetensors":
            return describe_safetensors(path)
        case suffix if suffix in CHECKPOINTS:
            return describe_checkpoint(path)
    raise MbcompressError(
        f"{reference}: cannot be described; name a run directory, a pass directory, a .onnx or .safetensors file, a "
        f"PyTorch checkpoint ({', '.join(CHECKPOINTS)}), or {PREFIX}NAME"
    )


def _describe_directory(path: Path) -> dict[str, Any]:
    if (path / ARCHITECTURE).is_file():
        return describe_pass(open_pass(path))
    if (path / MANIFEST).is_file():
        return describe_run(path)
    raise MbcompressError(
        f"{path}: is neither a run directory (no {MANIFEST}) nor a pass directory (no {ARCHITECTURE})"
    )


def _describe_zoo(reference: str, registry: Registry) -> dict[str, Any]:
    owners = {name: zoo for zoo in _zoos(registry) for name in zoo.names()}
    name = reference.removeprefix(PREFIX)
    if name not in owners:
        raise MbcompressError(unknown("zoo weights", name, owners))
    path, card = owners[name].locate(reference), owners[name].card(name)
    state = {key: value for key, value in describe_safetensors(path).items() if key not in ("kind", "path")}
    intact = {"intact": card["sha256"] == sha256(path)} if "sha256" in card else {}
    return {"kind": "zoo", "name": reference, "path": str(path), "card": card, **intact, "state": state}


def _zoos(registry: Registry) -> list[Zoo]:
    """Return the zoos of all model sources without duplicates."""
    return list({cls.zoo.directory: cls.zoo for cls, _ in registry.models if cls.zoo is not None}.values())
