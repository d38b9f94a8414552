"""Checks of model sources."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from mbcompress.errors import shown
from mbcompress.testing.result import CheckResult, run_checks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mbcompress.contract.models import ModelSource
    from mbcompress.testing.options import Subject


def check_source(subject: Subject) -> Iterator[CheckResult]:
    """The model loads, runs and can be exported."""
    for source in subject.instances():
        checks = {
            "loads": lambda source=source: check_loads(source),
            "exportable": lambda source=source: check_exportable(source, subject),
        }
        yield from run_checks(subject.label, checks)


def check_loads(source: ModelSource) -> Iterator[str]:
    """The model is in eval mode on the CPU and returns one logit per class."""
    shape = source.input_shape
    if len(shape) != 3 or not all(isinstance(size, int) and size > 0 for size in shape):
        yield f"input_shape must be channels, height and width, got {shown(shape)}"
        return
    model = source.load()
    if not isinstance(model, nn.Module):
        yield f"load() must return an nn.Module, got {shown(model)}"
        return
    if any(module.training for module in model.modules()):
        yield "load() returns a model in training mode; return model.eval()"
    if any(tensor.device.type != "cpu" for tensor in model.state_dict().values()):
        yield "load() returns a model that is not on the CPU; use map_location='cpu' or .cpu()"
    with torch.no_grad():
        logits = model.eval()(torch.zeros(2, *shape))
    expected = (2, source.num_classes)
    actual = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if actual != expected:
        yield f"logits of two images must have shape {expected}, got {actual}; num_classes must set the output width"


def check_exportable(source: ModelSource, subject: Subject) -> Iterator[str]:
    """ONNX export works."""
    runtime = subject.registry.runtimes.build("onnx", {}, subject.registry)
    with tempfile.TemporaryDirectory() as name:
        try:
            runtime.export(source.load().eval(), source.input_shape, Path(name) / "model.onnx")
        except Exception as error:  # the model's code may raise anything
            reason = " ".join(str(error).split())[:300]
            yield f"cannot be exported to ONNX: {type(error).__name__}: {reason}; use operators torch.export can trace"
