"""The cache key of a pass: a hash of its input model, data, options, code and libraries."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from packaging.requirements import InvalidRequirement, Requirement
from pydantic_core import PydanticSerializationError

from mbcompress.cache.fingerprints import (
    distribution_hash,
    model_fingerprint,
    plain_attributes,
    qualified_name,
    root_package,
    source_hash,
)
from mbcompress.contract.models import ModelSource
from mbcompress.contract.passes import Pass
from mbcompress.contract.teachers import teachers_in
from mbcompress.files import sha256
from mbcompress.measure.cpu import processor

if TYPE_CHECKING:
    from torch import nn

    from mbcompress.contract.context import Context
    from mbcompress.contract.options import Component
    from mbcompress.registry.registry import Origin

LIBRARIES = ("torch", "torchao")
"""Packages whose versions identify the code of their modules."""
SCHEMA = 2
"""Increase it when the format of cache entries changes."""


def pass_key(
    component: Pass,
    model: nn.Module,
    context: Context,
    origin: Origin | None,
    data: str,
    source: ModelSource | None = None,
) -> str | None:
    """Return the cache key of a pass on `model`; None if it depends on anything that cannot be hashed.

    Args:
        component: the pass.
        origin: the plugin that provides the pass; None for a caller's class.
        data: the result of `data_fingerprint`.
        source: the model source, because some of its options may only matter in training.
    """
    components = (component, *context.later, *([source] if source else []))
    if not all(_is_serializable(each) for each in components):
        return None
    values = [getattr(component, name) for name in type(component).model_fields]
    teachers = [teacher for _, teacher in teachers_in(component) if isinstance(teacher, ModelSource)]
    code = _code(component, teachers, model, context)
    if None in code.values():
        return None
    facts = {
        "schema": SCHEMA,
        "options": component.as_written(),
        "model": model_fingerprint(model, context.example(2)),
        "baseline": model_fingerprint(context.baseline, context.example(2)),
        "teachers": [model_fingerprint(each.load().eval(), context.example(2).cpu()) for each in teachers],
        "files": [sha256(value) for value in values if isinstance(value, Path) and value.is_file()],
        "data": data,
        "code": {**code, "mbcompress": source_hash(Pass)},
        "distribution": [origin.distribution, origin.version, distribution_hash(origin)] if origin else None,
        "settings": [plain_attributes(module) for module in model.modules()],
        "source": [source.name, source.as_written()] if source and not source.rebuildable else None,
        "libraries": versions_of({"mbcompress", *([origin.distribution] if origin else [])}),
        "traits": sorted(context.traits),
        "runtimes": [[each.name, each.as_written(), source_hash(type(each))] for each in context.runtimes],
        "later": [[each.name, each.as_written()] for each in context.later],
        "seed": context.seed,
        "processor": processor().model,  # some passes measure latency or check instruction sets
        "machine": machine(context.device, context.process_group.world_size),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _code(component: Pass, teachers: list[ModelSource], model: nn.Module, context: Context) -> dict[str, str | None]:
    """Return hashes of the code of the pass, teachers, later passes, and modules that are not from `LIBRARIES`."""
    classes: list[type] = [type(each) for each in (component, *teachers, *context.later)]
    classes += [type(module) for module in model.modules() if root_package(type(module)) not in LIBRARIES]
    return {qualified_name(cls): source_hash(cls) for cls in classes}


def machine(device: torch.device, world_size: int) -> dict[str, Any]:
    """Return what results depend on bit by bit, besides code and data."""
    return {
        "python": platform.python_version(),
        "processor": f"{platform.system()} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "processes": world_size,
    }


def _is_serializable(component: Component) -> bool:
    """Whether all options are JSON-serializable; descriptions of other objects may not be unique."""
    try:
        component.model_dump(mode="json")
    except PydanticSerializationError:
        return False
    return True


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
    """Return the installed versions of the requirements of these distributions."""
    versions = {}
    for name in sorted(set().union(*map(_requirements, distributions))):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
    return versions
