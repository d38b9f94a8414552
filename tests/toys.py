"""Code of two plugins: a runtime that exports at once, and a listener that records what it is told."""

import os
from pathlib import Path
from typing import Any

import pytest
from plugin_packages import Install

import mbcompress

MODEL = {"source": "mobilenet_v1", "width": 0.25, "num_classes": 10, "input_size": 32}
FAST = {"rounds": 5, "round_ms": 0.1, "threads": [1]}

TOY = '''
import numpy as np


class Toy(mbcompress.Runtime):
    """Classifies by mean colors; exports at once."""

    name: ClassVar[str] = "toy"
    suffix: ClassVar[str] = ".npy"

    def export(self, model, input_shape, path):
        *_, weight, _bias = model.parameters()
        with path.open("wb") as file:
            np.save(file, weight.detach().numpy().reshape(len(weight), -1)[:, : input_shape[0]])

    def open(self, path, threads):
        return Session(np.load(path))

    def convolutions(self, path):
        return mbcompress.ConvolutionCount(2, 1)

    def describe(self):
        return "Toy 1"


class Session(mbcompress.Session):
    def __init__(self, weight):
        self.weight = weight

    def run(self, images):
        return images.mean((2, 3)) @ self.weight.T


@mbcompress.hookimpl
def mbcompress_runtimes():
    return [Toy]
'''

DIARY = """
notices = []


@mbcompress.hookimpl
def mbcompress_run_started(run):
    notices.append(("started", run))


@mbcompress.hookimpl
def mbcompress_pass_finished(run, index, name, metrics, seconds):
    notices.append(("pass finished", run, index, name, dict(metrics), seconds))
    metrics.clear()


@mbcompress.hookimpl
def mbcompress_run_failed(run, error):
    notices.append(("failed", run, error))


@mbcompress.hookimpl
def mbcompress_run_finished(run, report, directory):
    files = sorted(path.name for path in directory.iterdir())
    notices.append(("finished", run, report["name"], directory, files))
    report.clear()
"""


class Lines(mbcompress.Progress):
    """Records the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def toy(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A recipe for the runtime `toy`, which is installed for this process and the measuring processes."""
    install("mb-toy", TOY, plugin="toy")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"), prepend=os.pathsep)
    return {"model": MODEL, "data": {"name": "digits"}, "export": ["toy"], "measure": FAST}
