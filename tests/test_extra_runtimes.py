"""Tests of all runtimes that are extras: OpenVINO, ExecuTorch, LiteRT."""

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from integer_models import Blocks, integer
from mbcompress_litert import environment

from mbcompress import MbcompressError, Normalization
from mbcompress.errors import SpecError
from mbcompress.measure.engine import Engine
from mbcompress.registry.discovery import Registry

IMAGES = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)


@dataclass(frozen=True)
class Extra:
    """A runtime: our module with INSTALLED, the package that it needs, its title, the suffix of its files."""

    runtime: str
    ours: str
    theirs: str
    title: str
    suffix: str


EXTRAS = (
    Extra("openvino", "mbcompress_onnx.openvino", "openvino", "OpenVINO", ".onnx"),
    Extra("executorch", "mbcompress_executorch", "executorch", "ExecuTorch", ".pte"),
    Extra("litert", "mbcompress_litert", "ai_edge_litert", "LiteRT", ".tflite"),
)
EXPORTING = [
    pytest.param(each, id=each.runtime, marks=() if each is EXTRAS[0] else pytest.mark.slow) for each in EXTRAS
]


@pytest.fixture(params=EXTRAS, ids=lambda extra: extra.runtime)
def extra(request: pytest.FixtureRequest) -> Extra:
    return request.param


@pytest.fixture
def runtime(extra: Extra, registry: Registry) -> Any:
    if importlib.util.find_spec(extra.theirs) is None:
        pytest.skip(f"{extra.title} is not installed: pip install 'mbcompress[{extra.runtime}]'")
    return registry.runtimes.build(extra.runtime, {}, registry)


@pytest.fixture
def exporter(extra: Extra, runtime: Any) -> Any:
    if extra.runtime == "litert" and not environment.is_ready():
        pytest.skip("the environment of LiteRT's converter has not been made")
    return runtime


def test_a_missing_one_is_named_before_anything_runs(
    extra: Extra, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{extra.ours}.INSTALLED", False)
    expected = rf"{extra.title} is not installed.*`pip install 'mbcompress\[{extra.runtime}\]'`"
    with pytest.raises(SpecError, match=expected):
        registry.runtimes.build(extra.runtime, {}, registry)


def test_a_missing_or_broken_file_is_one_sentence(extra: Extra, runtime: Any, tmp_path: Path) -> None:
    absent, bad = tmp_path / f"absent{extra.suffix}", tmp_path / f"bad{extra.suffix}"
    with pytest.raises(MbcompressError, match=rf"absent\{extra.suffix}: no such file"):
        runtime.open(absent, 1)
    bad.write_text("nothing")
    with pytest.raises(MbcompressError, match=rf"bad\{extra.suffix}: {extra.title} cannot open it: .+"):
        runtime.open(bad, 1)


@pytest.mark.parametrize("extra", EXPORTING)
@pytest.mark.filterwarnings("ignore")  # of torch and torchao, about themselves
def test_a_float_network_computes_what_torch_does(extra: Extra, exporter: Any, tmp_path: Path) -> None:
    model = Blocks().eval()
    path = tmp_path / f"model{extra.suffix}"
    exporter.export(model, (3, 32, 32), path)
    with torch.no_grad():
        expected = model(torch.from_numpy(IMAGES)).numpy()
    session = exporter.open(path, 1)
    for images in (IMAGES[:1], IMAGES, IMAGES[:2]):
        np.testing.assert_allclose(session.run(images), expected[: len(images)], rtol=1e-3, atol=1e-4)
    assert exporter.convolutions(path) == (7, 0)
    weights = exporter.zero_weights(path)
    assert weights is None if extra.runtime == "executorch" else weights.total > 3_000  # XNNPACK packs its own


@pytest.mark.parametrize("extra", EXPORTING)
@pytest.mark.filterwarnings("ignore")
def test_every_convolution_of_an_int8_network_is_int8(extra: Extra, exporter: Any, tmp_path: Path) -> None:
    model = integer(Blocks())
    path = tmp_path / f"model{extra.suffix}"
    exporter.export(model, (3, 32, 32), path)
    np.save(tmp_path / "images.npy", IMAGES)
    with torch.no_grad():
        expected = model(torch.from_numpy(IMAGES)).numpy()
    with Engine(exporter, path, (3, 32, 32), threads=1) as engine:
        assert re.match(rf"{extra.title} \d+\.\d", engine.runtime)
        logits = engine.predict(tmp_path / "images.npy", Normalization.identity(3))
        assert engine.convolutions() == (7, 7)
        weights = engine.zero_weights()
    assert np.abs(logits - expected).max() < 0.05 * np.abs(expected).max()
    if extra.runtime == "executorch":
        assert weights is None  # its weights are packed
    else:
        assert weights is not None
        assert 0 < weights[1] < 0.05 * weights[0]
    if extra.runtime == "litert":
        parameters = sum(weight.numel() for weight in model.state_dict().values())
        assert path.stat().st_size < 2.5 * parameters  # a float classifier, or float weights, would show


def test_openvino_runs_a_whole_network_in_any_batch_size(
    registry: Registry, tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'mbcompress[openvino]'")
    model = tiny_model("mobilenet_v1")
    runtime = registry.runtimes.build("openvino", {}, registry)
    path = tmp_path / "model.openvino.onnx"
    runtime.export(model, (3, 32, 32), path)
    session = runtime.open(path, 1)
    for images in (IMAGES[:1], IMAGES, IMAGES[:1]):
        with torch.no_grad():
            expected = model(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(session.run(images), expected, rtol=1e-3, atol=1e-4)
    assert runtime.convolutions(path) == (27, 0)
    assert runtime.zero_weights(path).total > 200_000
