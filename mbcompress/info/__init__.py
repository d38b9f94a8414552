"""Describes an artifact: a run, a step, an ONNX file, weights, or an entry of the zoo. torch only for checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mbcompress.checkpoint.stored import ARCHITECTURE, open_step
from mbcompress.contract.zoo import PREFIX, Zoo
from mbcompress.errors import MbcompressError, unknown
from mbcompress.files import sha256
from mbcompress.info.onnx_file import describe_onnx
from mbcompress.info.run import describe_run
from mbcompress.info.step import describe_step
from mbcompress.info.tensors import CHECKPOINTS, describe_checkpoint, describe_safetensors
from mbcompress.pipeline.run_directory import MANIFEST
from mbcompress.registry.discovery import discover


def describe_artifact(reference: str) -> dict[str, Any]:
    """What `reference` is, how large, and how it was made, ready for JSON; `kind` says which of them it is.

    Raises:
        MbcompressError: it is nothing that can be described, or it is damaged.
    """
    if reference.startswith(PREFIX):
        return _describe_zoo(reference)
    path = Path(reference).expanduser()
    try:
        if path.is_dir():
            return _describe_directory(path)
        if not path.is_file():
            what = "is neither a file nor a directory" if path.exists() else "no such file or directory"
            raise MbcompressError(f"{reference}: {what}; for shipped weights, name {PREFIX}NAME")
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
        f"{reference}: cannot be described; name a run directory, a step of one, a .onnx or .safetensors file, a "
        f"PyTorch checkpoint ({', '.join(CHECKPOINTS)}), or {PREFIX}NAME"
    )


def _describe_directory(path: Path) -> dict[str, Any]:
    if (path / ARCHITECTURE).is_file():
        return describe_step(open_step(path))
    if (path / MANIFEST).is_file():
        return describe_run(path)
    raise MbcompressError(f"{path}: is neither a run directory (no {MANIFEST}) nor a step (no {ARCHITECTURE})")


def _describe_zoo(reference: str) -> dict[str, Any]:
    owners = {name: zoo for zoo in _zoos() for name in zoo.names()}
    name = reference.removeprefix(PREFIX)
    if name not in owners:
        raise MbcompressError(unknown("zoo weights", name, owners))
    path, card = owners[name].locate(reference), owners[name].card(name)
    state = {key: value for key, value in describe_safetensors(path).items() if key not in ("kind", "path")}
    intact = {"intact": card["sha256"] == sha256(path)} if "sha256" in card else {}
    return {"kind": "zoo", "name": reference, "path": str(path), "card": card, **intact, "state": state}


def _zoos() -> list[Zoo]:
    """Each zoo of an installed model source, once."""
    found = [cls.zoo for cls, _ in discover().models if cls.zoo is not None]
    return list({zoo.directory: zoo for zoo in found}.values())
