"""Model sources, datasets, runtimes and metrics that break the contract: the kit says what to change."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from plugin_packages import Install
from torch import nn

from mbcompress import (
    Dataset,
    Images,
    MbcompressError,
    Measured,
    Metric,
    ModelSource,
    Normalization,
    Predictions,
    Splits,
)
from mbcompress.contract.options import Component
from mbcompress.registry.discovery import Registry, discover
from mbcompress.testing import check_component, check_plugin
from mbcompress.testing.tiny import tiny_splits


def problems(cls: type[Component], registry: Registry) -> list[str]:
    return [text for result in check_component(cls, registry) if not result.passed for text in result.problems]


def variant(cls: type[Component], **changes: Any) -> type[Component]:
    return type("Variant", (cls,), {"__doc__": "Changed.", "__module__": __name__, **changes})


class Net(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, classes, 3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images).mean((2, 3))  # type: ignore[no-any-return]


class Branching(Net):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        return logits if logits.sum() > 0 else -logits


class Source(ModelSource):
    """A small model."""

    name: ClassVar[str] = "net"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return 3, 16, 16

    def load(self) -> nn.Module:
        return Net(self.num_classes).eval()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"load": lambda self: Net().train()}, "load() returns a model in training mode; return model.eval()"),
        ({"load": lambda self: None}, "load() must return an nn.Module, got null"),
        (
            {"load": lambda self: Net(7).eval()},
            "logits of two images must have shape (2, 10), got (2, 7); num_classes must set the output width",
        ),
        (
            {"load": lambda self: Net().eval().to("meta")},
            "load() returns a model that is not on the CPU; use map_location='cpu' or .cpu()",
        ),
        (
            {"input_shape": property(lambda self: (16, 16))},
            "input_shape must be channels, height and width, got (16, 16)",
        ),
        ({"load": lambda self: Branching().eval()}, "cannot be exported to ONNX: "),
    ],
)
def test_sources(changes: dict[str, Any], problem: str, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    if "exported" not in problem:
        monkeypatch.setattr("mbcompress.testing.sources.check_exportable", lambda source, subject: ())
    assert problems(variant(Source, **changes), registry)[0].startswith(problem)


def test_a_good_source(registry: Registry) -> None:
    assert problems(Source, registry) == []


class Data(Dataset):
    """Stripes."""

    name: ClassVar[str] = "stripes"
    change: ClassVar[Callable[[Splits], object]] = staticmethod(lambda splits: splits)

    calibration: int = 32

    def load(self, input_shape: tuple[int, int, int], seed: int) -> Splits:
        return self.change(tiny_splits())  # type: ignore[return-value]


def stripes(change: Callable[[Splits], object]) -> type[Component]:
    return variant(Data, change=staticmethod(change))


def train(splits: Splits, pixels: Any = None, labels: Any = None) -> Splits:
    old = splits.train
    return replace(
        splits, train=Images(old.pixels if pixels is None else pixels, old.labels if labels is None else labels)
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda splits: None, "load() must return mbcompress.Splits, got null"),
        (
            lambda s: train(s, pixels=s.train.pixels / 255),
            "train: pixels must be contiguous uint8 or float32 (N, 3, 32, 32) for ",
        ),
        (lambda s: train(s, pixels=s.train.pixels[:, :, ::2]), "train: pixels must be contiguous uint8"),
        (lambda s: train(s, labels=s.train.labels.astype(np.int32)), "train: labels must be int64, one per image"),
        (lambda s: train(s, labels=s.train.labels[:-1]), "train: labels must be int64, one per image, got "),
        (
            lambda s: train(s, labels=s.train.labels + 1),
            "train: labels must be from 0 to 9 for 10 classes, got up to 10",
        ),
        (lambda s: replace(s, calibration=s.test), "has 20 calibration images, expected 32"),
        (
            lambda s: replace(s, normalization=Normalization((0.5, 0.5), (1.0,))),
            "normalization.mean must have one number per channel, 3 in all, got (0.5, 0.5)",
        ),
        (
            lambda s: train(s, labels=np.random.default_rng().permutation(s.train.labels)),
            "returns different images with the same seed; the splits must depend on the seed only",
        ),
    ],
)
def test_datasets(change: Callable[[Splits], object], problem: str, registry: Registry) -> None:
    (found, *_) = [text for text in problems(stripes(change), registry) if "description" not in text]
    assert found.startswith(problem)


def absent(splits: Splits) -> Splits:
    raise MbcompressError("stripes: not downloaded")


def test_an_unavailable_dataset_is_skipped(registry: Registry) -> None:
    result = check_component(stripes(absent), registry)[-1]
    assert result.outcome == "skipped"
    assert "its data is not available: stripes: not downloaded" in str(result)


class Figure(Metric):
    """A count."""

    name: ClassVar[str] = "count"
    count: ClassVar[Callable[[Predictions], object]] = staticmethod(lambda p: {"n": Measured(len(p.labels))})

    def measure(self, predictions: Predictions) -> dict[str, Measured]:
        return self.count(predictions)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("count", "problem"),
    [
        (lambda p: {"n": 3}, "measure() must return a dict of mbcompress.Measured, got {'n': 3}"),
        (lambda p: {}, "measure() must return a dict of mbcompress.Measured, got {}"),
        (
            lambda p: {"n": Measured(np.random.default_rng().random())},
            "measure() returns different figures for the same predictions; seed its random draws",
        ),
        (
            lambda p: {str(p.labels[0]): Measured(1)},
            "measure() must return the same names for all predictions, got ['8'] and ['4']",
        ),
        (lambda p: {"n": Measured(np.float32(1))}, "figure 'n' must be a Python number, got np.float32(1.0)"),
        (lambda p: {"n": Measured(1 / 0)}, "raised ZeroDivisionError: division by zero (test_conformance_kinds.py, "),
    ],
)
def test_metrics(count: Callable[[Predictions], object], problem: str, registry: Registry) -> None:
    assert problems(variant(Figure, count=staticmethod(count)), registry)[0].startswith(problem)


def test_a_good_metric(registry: Registry) -> None:
    assert problems(Figure, registry) == []


RUNTIME = """
class Echo(mbcompress.Runtime):
    "Answers from a table."
    name: ClassVar[str] = "echo"
    suffix: ClassVar[str] = SUFFIX
    def export(self, model, input_shape, path):
        import numpy, torch
        from mbcompress.testing.tiny import probe
        with torch.no_grad():
            path.write_bytes(model(probe()).numpy().tobytes())
        EXPORT
    def open(self, path, threads):
        OPEN
        import numpy
        answers = numpy.frombuffer(path.read_bytes(), numpy.float32).reshape(20, 10)
        class Table(mbcompress.Session):
            def run(self, images):
                return RUN
        return Table()
    def convolutions(self, path):
        return mbcompress.ConvolutionCount(COUNT)
    def describe(self):
        return DESCRIBE

@mbcompress.hookimpl
def mbcompress_runtimes():
    return [Echo]
"""
FINE = {
    "SUFFIX": "'.npy'", "EXPORT": "", "OPEN": "", "RUN": "answers", "COUNT": "52, 0", "DESCRIBE": "'Echo 1'"
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"SUFFIX": "'npy'"}, "suffix must begin with a dot, got 'npy'"),
        ({"DESCRIBE": "''"}, "describe() must return the engine's name and version"),
        (
            {"EXPORT": "(path.parent / 'more').touch()"},
            "export() must write exactly one file, 'model.npy', got ['model.npy', 'more']",
        ),
        ({"RUN": "answers.argmax(1)"}, "run() must return float32 logits of shape (20, 10), got int64 (20,)"),
        ({"RUN": "answers + 1"}, "the logits of the exported file differ from the model's by up to 1"),
        ({"COUNT": "0, 0"}, "convolutions() must count the convolutions of a MobileNetV2, got (0, 0)"),
        ({"COUNT": "3, 4"}, "convolutions() must count the convolutions of a MobileNetV2, got (3, 4)"),
        ({"OPEN": "import torch"}, "open() imports torch, which would count as the runtime's memory; import only"),
    ],
)
def test_runtimes(changes: dict[str, str], problem: str | None, install: Install) -> None:
    code = RUNTIME
    for word, text in {**FINE, **changes}.items():
        code = code.replace(word, text)
    install("mb-echo", code, plugin="echoer")
    found = [text for result in check_plugin("echo", discover()) if not result.passed for text in result.problems]
    assert len(found) == (0 if problem is None else 1), found
    assert problem is None or found[0].startswith(problem)
