"""The environment of a run, on which its results depend besides the recipe: the content of environment.json."""

import importlib.metadata
import os
import platform
from typing import Any

from mbcompress.measure.cpu import processor
from mbcompress.registry.discovery import Registry

REPEATABLE = (
    "weights and accuracy are the same to the last bit where python, libraries, plugins, cpu flags, torch_threads, "
    "processes, device and seed are the same; times and memory vary"
)
INSTRUCTIONS = ("avx", "amx", "sse4", "fma")
LIBRARIES = ("mbcompress", "torch", "torch-pruning", "torchao", "onnx", "onnxruntime", "numpy")


def describe_environment(registry: Registry, device: str, seed: int, world_size: int) -> dict[str, Any]:
    """Describe versions, processor, threads, processes, seed and plugins."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "plugins": [
            {"kind": kind.name, "name": cls.name, "distribution": origin.distribution, "version": origin.version}
            for kind in registry.kinds
            for cls, origin in kind
        ],
        "cpu": describe_cpu(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "processes": world_size,
        "device": device,
        "seed": seed,
        "repeatable": REPEATABLE,
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe_cpu() -> dict[str, Any]:
    """Describe the processor: model name and instruction sets."""
    cpu = processor()
    return {"model": cpu.model, "flags": sorted(flag for flag in cpu.flags or () if flag.startswith(INSTRUCTIONS))}
