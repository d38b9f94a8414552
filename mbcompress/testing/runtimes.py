"""Checks of runtimes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mbcompress.errors import shown
from mbcompress.testing.result import CheckResult, run_checks
from mbcompress.testing.tiny import CLASSES, SHAPE, probe, tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mbcompress.contract.runtimes import Runtime
    from mbcompress.testing.options import Subject

OPENS = """
import sys
from pathlib import Path
from mbcompress.registry.discovery import discover
registry = discover()
registry.runtimes.build(sys.argv[1], {}, registry).open(Path(sys.argv[2]), 1)
print("torch" in sys.modules)
"""


def check_runtime(subject: Subject) -> Iterator[CheckResult]:
    """The runtime exports one file, opens it, and returns the model's logits."""
    for runtime in subject.instances():
        yield from run_checks(subject.label, {"exports and runs": lambda runtime=runtime: _check(runtime, subject)})  # type: ignore[misc]


def _check(runtime: Runtime, subject: Subject) -> Iterator[str]:
    if not runtime.suffix.startswith("."):
        yield f"suffix must begin with a dot, got {shown(runtime.suffix)}"
    if not isinstance(runtime.describe(), str) or not runtime.describe():
        yield "describe() must return the engine's name and version"
    model = tiny_model("mobilenet_v2", subject.registry)
    images = probe()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"model{runtime.suffix}"
        runtime.export(model, SHAPE, path)
        if [file.name for file in Path(name).iterdir()] != [path.name]:
            files = sorted(file.name for file in Path(name).iterdir())
            yield f"export() must write exactly one file, {path.name!r}, got {shown(files)}"
            return
        logits = runtime.open(path, 1).run(images.numpy())
        convolutions = runtime.convolutions(path)
        weights = runtime.zero_weights(path)
        yield from _check_opens_alone(runtime, path)
    with torch.no_grad():
        expected = model(images).numpy()
    if logits.shape != (len(images), CLASSES) or logits.dtype != np.float32:
        yield f"run() must return float32 logits of shape {(len(images), CLASSES)}, got {logits.dtype} {logits.shape}"
    elif not np.allclose(logits, expected, atol=1e-2, rtol=1e-2):
        yield f"the logits of the exported file differ from the model's by up to {abs(logits - expected).max():.3g}"
    if convolutions.total < 1 or not 0 <= convolutions.int8 <= convolutions.total:
        yield f"convolutions() must count the convolutions of a MobileNetV2, got {shown(tuple(convolutions))}"
    if weights and not 0 <= weights.zero <= weights.total:
        yield f"zero_weights() must not count more zeros than weights, got {shown(tuple(weights))}"


def _check_opens_alone(runtime: Runtime, path: Path) -> Iterator[str]:
    """Open the file in a separate process, as for measurements."""
    command = [sys.executable, "-c", OPENS, runtime.name, str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if process.returncode:
        yield f"open() fails in a separate process: {shown(process.stderr.strip().splitlines()[-1:])}"
    elif process.stdout.split()[-1] == "True" and not runtime.needs_torch:
        yield (
            "open() imports torch, which would count as the runtime's memory; import only the engine there, or set "
            "needs_torch = True"
        )
