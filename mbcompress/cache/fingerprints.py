"""Hashes of data, models and source code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import inspect
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mbcompress.graph import noise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from mbcompress.data.splits import Development
    from mbcompress.registry.registry import Origin


def data_fingerprint(data: Development) -> str:
    """Return the SHA-256 of all data that passes can see."""
    digest = hashlib.sha256(repr((data.classes, data.normalization, data.augmentation)).encode())
    for images in (data.train, data.calibration, data.validation):
        digest.update(repr((images.pixels.shape, images.pixels.dtype)).encode())
        images.feed(digest)
    return digest.hexdigest()


@torch.no_grad()
def model_fingerprint(model: nn.Module, example: Tensor) -> str:
    """Return the SHA-256 of a model in eval mode: its layers, tensors, and outputs, which depend on its code.

    Args:
        example: (N, C, H, W) float32; only its shape and device are used.
    """
    digest = hashlib.sha256(f"{qualified_name(type(model))} {model!r}".encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(_content(value) if isinstance(value, torch.Tensor) else repr(value).encode())
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    digest.update(repr(trained).encode())
    digest.update(_content(model(noise(example.shape).to(example.device))))
    return digest.hexdigest()


def _content(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return repr((tuple(tensor.shape), tensor.dtype)).encode() + flat.view(torch.uint8).numpy().tobytes()


def plain_attributes(module: nn.Module) -> dict[str, str]:
    """Return attributes with plain values, such as a dropout rate that the module's `repr` does not show."""
    return {
        name: repr(value)
        for name, value in sorted(vars(module).items())
        if not name.startswith("_") and name != "training" and _is_plain(value)
    }


def _is_plain(value: object) -> bool:
    """Whether a value is a number, string, None, or a list, tuple or dict of these, so that `repr` is complete."""
    if isinstance(value, dict):
        return all(map(_is_plain, [*value, *value.values()]))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def qualified_name(cls: type) -> str:
    """Return 'package.module.Class'."""
    return f"{cls.__module__}.{cls.__qualname__}"


def root_package(cls: type) -> str:
    """Return the top-level package."""
    return cls.__module__.partition(".")[0]


@cache
def source_hash(cls: type) -> str | None:
    """Return the SHA-256 of the code that defines a class: its package, its module or script, or only the class.

    None if the source cannot be read.
    """
    file = getattr(sys.modules.get(root_package(cls)), "__file__", None)
    try:
        if file is None or root_package(cls) == "__main__":  # the class may be from an interactive session
            text = hashlib.sha256(inspect.getsource(cls).encode()).hexdigest()
            return text + (_digest(Path(file)) if file else "")
        return _digest(Path(file))
    except (OSError, TypeError):
        return None


@cache
def distribution_hash(origin: Origin) -> str:
    """Return the SHA-256 of all modules of a plugin's distribution; an empty hash for mbcompress itself."""
    digest = hashlib.sha256()
    if origin.distribution != "mbcompress":
        names = importlib.metadata.packages_distributions()
        for name in sorted(name for name, owners in names.items() if origin.distribution in owners):
            spec = importlib.util.find_spec(name) if name.isidentifier() else None
            if spec and spec.origin and Path(spec.origin).is_file():
                digest.update(_digest(Path(spec.origin)).encode())
    return digest.hexdigest()


def _digest(module: Path) -> str:
    digest = hashlib.sha256()
    for path in _files(module):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files(module: Path) -> Iterator[Path]:
    """Yield the module's file, or all Python files and compiled extensions of a package."""
    if module.name != "__init__.py":
        yield module
        return
    yield from sorted(path for suffix in ("py", "so", "pyd") for path in module.parent.rglob(f"*.{suffix}"))
