"""Describes an artifact: a run, a pass of it, an ONNX file, weights, or an entry of the zoo.

In: a path or zoo:NAME, and the registry for the latter. Out: a mapping, ready for JSON. May import: checkpoint and the
rooms below it; torch for PyTorch checkpoints only.
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
    """Kind, size and origin of an artifact, ready for JSON.

    Args:
        reference: a path, or zoo:NAME.
        registry: its model sources' zoos are searched.

    Raises:
        MbcompressError: it cannot be described, or it is damaged.
    """
    if reference.startswith(PREFIX):
        return _describe_zoo(reference, registry)
    path = Path(reference).expanduser()
    try:
        if path.is_dir():
            return _describe_directory(path)
        if not path.is_file():
            problem = "is neither a file nor a directory" if path.exists() else "no such file or directory"
            raise MbcompressError(f"{reference}: {problem}; for shipped weights, name {PREFIX}NAME")
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
        f"{reference}: cannot be described; name a run directory, a pass of one, a .onnx or .safetensors file, a "
        f"PyTorch checkpoint ({', '.join(CHECKPOINTS)}), or {PREFIX}NAME"
    )


def _describe_directory(path: Path) -> dict[str, Any]:
    if (path / ARCHITECTURE).is_file():
        return describe_pass(open_pass(path))
    if (path / MANIFEST).is_file():
        return describe_run(path)
    raise MbcompressError(
        f"{path}: is neither a run directory (no {MANIFEST}) nor the directory of a pass (no {ARCHITECTURE})"
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
    """The zoos of all model sources, which may share one."""
    return list({cls.zoo.directory: cls.zoo for cls, _ in registry.models if cls.zoo is not None}.values())
