"""What a step's result follows from: the model and the data that come in, the options, the code, the libraries."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import platform
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from packaging.requirements import InvalidRequirement, Requirement
from pydantic_core import PydanticSerializationError

import mbcompress
from mbcompress.contract.models import ModelSource
from mbcompress.contract.teachers import teachers_in
from mbcompress.files import sha256
from mbcompress.graph import noise
from mbcompress.measure.cpu import processor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from mbcompress.contract.context import Context
    from mbcompress.contract.options import Component
    from mbcompress.contract.passes import Pass
    from mbcompress.data.splits import Development
    from mbcompress.registry.registry import Origin

LIBRARIES = ("torch", "torchao")
"""Packages whose versions say what their modules do."""
SCHEMA = 1
"""Raised when what a step's files mean changes."""


def step_key(
    step: Pass,
    model: nn.Module,
    context: Context,
    origin: Origin | None,
    data: str,
    source: ModelSource | None = None,
) -> str | None:
    """The name under which the result of `step` on `model` is kept, or None if something of it cannot be known.

    Args:
        origin: where the pass was installed from; None for a class of the caller's.
        data: what `data_fingerprint` gave.
        source: where the model came from; what a stranger's does with an option may show in training only.
    """
    if not all(_is_plain(each) for each in (step, *context.later, *([source] if source else []))):
        return None
    values = [getattr(step, name) for name in type(step).model_fields]
    sources = [teacher for _, teacher in teachers_in(step) if isinstance(teacher, ModelSource)]
    files = [value for value in values if isinstance(value, Path) and value.is_file()]
    code = {describe_class(type(each)): source_of(type(each)) for each in (step, *sources, *context.later)}
    strangers = [module for module in model.modules() if _root(type(module)) not in LIBRARIES]
    for module in strangers:  # what they do in training only
        kind: type = type(module)
        code[describe_class(kind)] = source_of(kind)
    if None in code.values():
        return None
    facts = {
        "schema": SCHEMA,
        "options": step.as_written(),
        "model": model_fingerprint(model, context.example(2)),
        "baseline": model_fingerprint(context.baseline, context.example(2)),
        "sources": [model_fingerprint(each.load().eval(), context.example(2).cpu()) for each in sources],
        "files": [sha256(path) for path in files],
        "data": data,
        "code": {**code, "mbcompress": source_of(mbcompress.Pass)},
        "distribution": [origin.distribution, origin.version, source_of_distribution(origin)] if origin else None,
        "settings": [_settings(module) for module in model.modules()],
        "source": [source.name, source.as_written()] if source and not source.rebuildable else None,
        "libraries": versions_of({"mbcompress", *([origin.distribution] if origin else [])}),
        "traits": sorted(context.traits),
        "runtimes": [[each.name, each.as_written(), source_of(type(each))] for each in context.runtimes],
        "later": [[each.name, each.as_written()] for each in context.later],
        "seed": context.seed,
        "processor": processor().model,  # some passes measure time, or ask what it can
        "machine": machine(context.device, context.process_group.world_size),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def machine(device: torch.device, processes: int) -> dict[str, Any]:
    """What the last bit of a result depends on beside code and data."""
    return {
        "python": platform.python_version(),
        "processor": f"{platform.system()} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "processes": processes,
    }


def data_fingerprint(data: Development) -> str:
    """SHA-256 of everything that passes may see of the data."""
    digest = hashlib.sha256(repr((data.classes, data.normalization, data.augmentation)).encode())
    for images in (data.train, data.calibration, data.validation):
        digest.update(repr((images.pixels.shape, images.pixels.dtype)).encode())
        images.feed(digest)
    return digest.hexdigest()


@torch.no_grad()
def model_fingerprint(model: nn.Module, example: Tensor) -> str:
    """SHA-256 of a model in eval mode: its layers, its tensors, and what it answers, which its code decides.

    Args:
        example: (N, C, H, W) float32; gives shape and device.
    """
    digest = hashlib.sha256(f"{describe_class(type(model))} {model!r}".encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(_content(value) if isinstance(value, torch.Tensor) else repr(value).encode())
    digest.update(repr([name for name, each in model.named_parameters() if each.requires_grad]).encode())
    digest.update(_content(model(noise(example.shape).to(example.device))))
    return digest.hexdigest()


def _content(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return repr((tuple(tensor.shape), tensor.dtype)).encode() + flat.view(torch.uint8).numpy().tobytes()


def describe_class(cls: type) -> str:
    """'package.module.Class'."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _settings(module: nn.Module) -> dict[str, str]:
    """Attributes that are numbers, texts or made of them, such as a share of dropout that no representation shows."""
    return {
        name: repr(value)
        for name, value in sorted(vars(module).items())
        if not name.startswith("_") and name != "training" and _is_plain_value(value)
    }


def _is_plain_value(value: object) -> bool:
    """Whether a value is a number, a text, None, or a list, tuple or dict of such: `repr` shows all of it."""
    if isinstance(value, dict):
        return all(map(_is_plain_value, [*value, *value.values()]))
    if isinstance(value, list | tuple):
        return all(map(_is_plain_value, value))
    return value is None or isinstance(value, bool | int | float | str)


def _is_plain(component: Component) -> bool:
    """Whether a document can hold its options; others are only described there, and two may look the same."""
    try:
        component.model_dump(mode="json")
    except PydanticSerializationError:
        return False
    return True


@cache
def source_of(cls: type) -> str | None:
    """SHA-256 of the code that a class came with: its package, its module or script, or the class alone.

    None if the code is nowhere to be read.
    """
    file = getattr(sys.modules.get(_root(cls)), "__file__", None)
    try:
        if file is None or _root(cls) == "__main__":  # where a class may have been typed
            text = hashlib.sha256(inspect.getsource(cls).encode()).hexdigest()
            return text + (_digest(Path(file)) if file else "")
        return _digest(Path(file))
    except (OSError, TypeError):
        return None


@cache
def source_of_distribution(origin: Origin) -> str:
    """SHA-256 of all modules that came with a plugin; of mbcompress itself, whose plugins are many, nothing."""
    digest = hashlib.sha256()
    if origin.distribution != "mbcompress":
        names = importlib.metadata.packages_distributions()
        for name in sorted(name for name, owners in names.items() if origin.distribution in owners):
            spec = importlib.util.find_spec(name) if name.isidentifier() else None
            if spec and spec.origin and Path(spec.origin).is_file():
                digest.update(_digest(Path(spec.origin)).encode())
    return digest.hexdigest()


def _root(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def _digest(module: Path) -> str:
    digest = hashlib.sha256()
    for path in _files(module):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files(module: Path) -> Iterator[Path]:
    """Of a package the code in Python and what was compiled with it."""
    if module.name != "__init__.py":
        yield module
        return
    yield from sorted(path for suffix in ("py", "so", "pyd") for path in module.parent.rglob(f"*.{suffix}"))


@cache
def _requirements(distribution: str) -> frozenset[str]:
    names = set()
    for line in importlib.metadata.requires(distribution) or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            names.add(requirement.name)
    return frozenset(names)


def versions_of(distributions: set[str]) -> dict[str, str]:
    """Versions of what these distributions require."""
    versions = {}
    for name in sorted(set().union(*map(_requirements, distributions))):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
    return versions
