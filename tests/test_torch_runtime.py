"""torch as a runtime: programs, compiled or not, and AOTInductor packages that carry the operators they call."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from integer_models import Blocks, integer
from mbcompress_winograd.graph import find_depthwise, replace_depthwise
from mbcompress_winograd.library import KERNELS

from mbcompress import MbcompressError
from mbcompress.graph import export_graph
from mbcompress.graph.operators import register_operators
from mbcompress.measure.engine import Engine
from mbcompress.registry.discovery import Registry
from mbcompress.testing.tiny import tiny_model as learnt_model

SHAPE = (3, 32, 32)


@pytest.fixture
def substituted(tiny_model: Callable[..., Any], registry: Registry) -> Any:
    register_operators(operators for _, operators in registry.operators.values())
    model = tiny_model("mobilenet_v2")
    graph = export_graph(model, torch.zeros(2, *SHAPE), "test")
    layers, _ = find_depthwise(graph)
    return replace_depthwise(graph, {each.name: "f2" if each.stride == 1 else "direct" for each in layers}, layers)


def logits_of(model: Any, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        answers: torch.Tensor = model(images)
    return answers


def test_a_program_runs_in_a_process_of_its_own(registry: Registry, substituted: Any, tmp_path: Path) -> None:
    runtime = registry.runtimes.build("torch", {"mode": "eager"}, registry)
    path = tmp_path / "model.pt2"
    runtime.export(substituted, SHAPE, path)
    images = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
    session = runtime.open(path, 1)
    for count in (1, 3):
        expected = logits_of(substituted, torch.from_numpy(images[:count]))
        torch.testing.assert_close(torch.from_numpy(session.run(images[:count])), expected, rtol=1e-4, atol=1e-5)
    with Engine(runtime, path, SHAPE, 1) as engine:
        assert engine.runtime.endswith("(CPU, eager)")
        assert engine.convolutions() == (52, 0)
        assert engine.time(1.0)
        assert engine.memory()["peak_bytes"] > 2e8


def test_a_missing_or_broken_file_is_one_sentence(registry: Registry, tmp_path: Path) -> None:
    for name in ("torch", "aotinductor"):
        runtime = registry.runtimes.build(name, {}, registry)
        with pytest.raises(MbcompressError, match=r"absent\.pt2: no such file"):
            runtime.open(tmp_path / "absent.pt2", 1)
        (tmp_path / "bad.pt2").write_text("nothing")
        with pytest.raises(MbcompressError, match=r"bad\.pt2: (torch|AOTInductor) cannot open it: .+"):
            runtime.open(tmp_path / "bad.pt2", 1)


ALONE = """
import sys, tempfile, zipfile, pathlib, torch
package, images = sys.argv[1:]
with zipfile.ZipFile(package) as archive, tempfile.TemporaryDirectory() as folder:
    for name in archive.namelist():
        if name.endswith("/mbcompress/kernels.so"):
            torch.ops.load_library(archive.extract(name, folder))
    model = torch._inductor.aoti_load_package(package)
    given = torch.load(images)
    print(float(model(given).sum()), "mbcompress" in sys.modules)
"""


def check_alone(path: Path, images: torch.Tensor, expected: torch.Tensor) -> None:
    """A process without mbcompress computes the same logits."""
    torch.save(images, path.with_name("images.pt"))
    command = [sys.executable, "-P", "-c", ALONE, str(path), str(path.with_name("images.pt"))]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    total, ours = ended.stdout.split()
    assert float(total) == pytest.approx(float(expected.sum()), rel=1e-3, abs=1e-4)
    assert ours == "False"


@pytest.mark.slow
@pytest.mark.skipif(not KERNELS.is_file(), reason="the kernels were not built: no C++ compiler")
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch, about its own pytrees
def test_a_package_carries_its_operators(registry: Registry, substituted: Any, tmp_path: Path) -> None:
    runtime = registry.runtimes.build("aotinductor", {}, registry)
    path = tmp_path / "model.aoti.pt2"
    runtime.export(substituted, SHAPE, path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with zipfile.ZipFile(path) as archive:
        assert any(name.endswith("/mbcompress/kernels.so") for name in archive.namelist())
    images = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    expected = logits_of(substituted, images)
    found = runtime.open(path, 1).run(images.numpy())
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)
    assert runtime.convolutions(path) == (52, 0)
    check_alone(path, images, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch, about its own pytrees
@pytest.mark.parametrize(("freezing", "integers"), [(False, 0), (True, 52)])
def test_an_int8_package_computes_the_same(
    freezing: bool, integers: int, registry: Registry, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    """A package compiled for images in channels_last computes wrong logits for contiguous ones."""
    model = learnt_model("mobilenet_v2", registry)
    quantized = registry.passes.build("ptq", {"algorithm": "minmax"}, registry).apply(model, make_context(model))
    runtime = registry.runtimes.build("aotinductor", {"freezing": freezing}, registry)
    path = tmp_path / "model.aoti.pt2"
    runtime.export(quantized, SHAPE, path)
    images = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    expected = logits_of(quantized, images)
    found = torch.from_numpy(runtime.open(path, 1).run(images.numpy()))
    assert float((found - expected).square().sum() / expected.square().sum()) < 0.01  # 20 dB
    assert runtime.convolutions(path) == (52, integers)
    check_alone(path, images, found)


@pytest.mark.slow
def test_a_compiled_program_computes_the_same(registry: Registry, substituted: Any, tmp_path: Path) -> None:
    runtime = registry.runtimes.build("torch", {"freezing": True}, registry)
    path = tmp_path / "model.pt2"
    runtime.export(substituted, SHAPE, path)
    images = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    with Engine(runtime, path, SHAPE, 1) as engine:
        assert engine.runtime.endswith("(CPU, torch.compile, frozen)")
    found = runtime.open(path, 1).run(images.numpy())
    torch.testing.assert_close(torch.from_numpy(found), logits_of(substituted, images), rtol=1e-4, atol=1e-5)
    assert runtime.convolutions(path) == (52, 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch, about itself
def test_int8_convolutions_are_those_that_are_executed(registry: Registry, tmp_path: Path) -> None:
    eager, compiled, frozen = (
        registry.runtimes.build("torch", options, registry) for options in ({"mode": "eager"}, {}, {"freezing": True})
    )
    path = tmp_path / "model.pt2"
    eager.export(integer(Blocks()), SHAPE, path)
    eager.open(path, 1).run(np.zeros((1, *SHAPE), np.float32))
    assert eager.convolutions(path) == (7, 0)
    for runtime, integers in ((compiled, 0), (frozen, 7)):
        with Engine(runtime, path, SHAPE, 1) as engine:
            assert engine.time(1.0)
            assert engine.convolutions() == (7, integers)
    assert frozen.convolutions(path) == (7, 7)
    compiled.export(Blocks().eval(), SHAPE, path)
    assert compiled.convolutions(path) == (7, 0)
