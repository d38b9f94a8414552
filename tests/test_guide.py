"""Tests of the plugin guide: its modules are installed as a package, and everything on the page runs."""

import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from documents import DOCS, GUIDE, blocks, modules

import mbcompress
from mbcompress.cli import main
from mbcompress.recipe import from_mapping, resolve
from mbcompress.registry.discovery import Registry, discover

MODULES = modules()
TESTS = [block for block in blocks(GUIDE, "python") if (block.file or "").startswith("test_")]
SCRIPTS = [block for block in blocks(GUIDE, "python") if not block.file]


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The guide's modules as an installed distribution, with the guide's entry points."""
    site = tmp_path_factory.mktemp("site")
    for block in MODULES:
        assert block.file is not None
        (site / block.file).write_text(block.code)
    project, entries = (tomllib.loads(block.code) for block in blocks(GUIDE, "toml"))
    info = site / "mb_clip-1.0.dist-info"
    info.mkdir()
    named = project["project"]
    requires = "".join(f"Requires-Dist: {requirement}\n" for requirement in named["dependencies"])
    head = f"Metadata-Version: 2.1\nName: {named['name']}\nVersion: {named['version']}\n"
    (info / "METADATA").write_text(f"{head}{requires}")
    points = entries["project"]["entry-points"]["mbcompress"]
    assert points.items() >= project["project"]["entry-points"]["mbcompress"].items()
    (info / "entry_points.txt").write_text("\n".join(["[mbcompress]", *(f"{k} = {v}" for k, v in points.items())]))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)  # for the measuring processes
        yield site
    for block in MODULES:
        sys.modules.pop(Path(str(block.file)).stem, None)


@pytest.fixture(scope="module")
def extended(guide: Path) -> Registry:
    """The registry with the guide's plugins."""
    importlib.invalidate_caches()
    registry = discover()
    assert [plugin for plugin in registry.broken if plugin.origin.distribution == "mb-clip"] == []
    return registry


def test_the_smallest_pass_is_small() -> None:
    packaging, module = blocks(GUIDE, "toml")[0], MODULES[0]
    assert len(packaging.code.splitlines()) - 1 <= 12  # without the line that names the file
    assert len([line for line in module.code.splitlines()[1:] if line.strip()]) < 30


def test_every_module_of_the_guide_is_found(extended: Registry) -> None:
    theirs = {
        kind.name: {cls.name for cls, origin in kind if origin.distribution == "mb-clip"} for kind in extended.kinds
    }
    assert theirs == {
        "pass": {"clip", "band", "palettize"},
        "model source": {"smallnet"},
        "dataset": {"stripes"},
        "runtime": {"onnx_reference"},
        "metric": {"worst_class"},
    }


def test_operators_of_the_guide(extended: Registry) -> None:
    import torch

    _, offered = extended.operators["mb_half"]
    offered.register()
    offered.register()
    assert float(torch.ops.mb_half.half(torch.tensor(4.0))) == 2.0


def test_discovery_of_the_guide_imports_no_torch(guide: Path) -> None:
    code = (
        "import sys; from mbcompress.registry.discovery import discover; discover(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_recipe_of_the_guide(
    guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It runs on the guide's small network, the pass works, and the diary is written."""
    (block,) = [block for block in blocks(GUIDE, "yaml") if block.file == "clip.yaml"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MB_DIARY", "diary.txt")
    Path("clip.yaml").write_text(block.code)
    small = ["-o", "model={source: smallnet, num_classes: 10}", "-o", "passes.clip.sigmas=1"]
    assert main(["run", "clip.yaml", "--out", "run", "--quiet", *small]) == 0
    assert capsys.readouterr().err == ""
    from safetensors.torch import load_file

    state = load_file("run/passes/01-clip/state.safetensors")
    kernels = [value.abs() for value in state.values() if value.dim() == 4]
    assert all((kernel == kernel.max()).float().mean() > 0.2 for kernel in kernels)  # uniform before: 42 % clipped
    diary = Path("diary.txt").read_text().splitlines()
    assert [line.split()[1] for line in diary] == ["clip", "1.00"]
    assert diary[1].endswith("times smaller, in run")


def test_the_pass_that_trains(
    guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trained weights are on few centroids, in the run's files too, and the pass is short."""
    code = "".join(block.code for block in MODULES if block.file in ("mb_palettize.py", "mb_clusters.py"))
    assert 40 < len([line for line in code.splitlines() if line.strip()]) < 60
    (block,) = [block for block in blocks(GUIDE, "yaml") if block.file == "palettize.yaml"]
    monkeypatch.chdir(tmp_path)
    Path("palettize.yaml").write_text(block.code)
    small = ["-o", "model={source: smallnet, num_classes: 10}", "-o", "passes.palettize.bits=3", "-o", "data.test=0.5"]
    assert main(["run", "palettize.yaml", "--out", "run", "--quiet", *small]) == 0
    assert capsys.readouterr().err == ""
    from safetensors.torch import load_file

    state = load_file("run/passes/01-palettize/state.safetensors")
    weights = [value for value in state.values() if value.dim() > 1]
    assert weights
    assert all(len(weight.unique()) <= 8 for weight in weights)
    assert json.loads(Path("run/passes/01-palettize/metrics.json").read_text())["metrics"]["best_epoch"] > 0


def test_the_message_of_the_guide(
    guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    head = "model: {source: mobilenet_v1, num_classes: 10}\ndata: {name: digits}\npasses:\n"
    Path("band.yaml").write_text(f"{head}  - band: {{low: 2}}\n")
    assert main(["validate", "band.yaml"]) == 2
    (message,) = [block.code for block in blocks(GUIDE, "text") if "band.yaml" in block.code]
    assert capsys.readouterr().err == message


def test_the_error_of_the_guide(extended: Registry) -> None:
    from torch import nn

    with pytest.raises(mbcompress.MbcompressError, match="the model has no convolutions"):
        extended.passes.build("clip", {}, extended).apply(nn.Linear(2, 2), None)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")  # warnings of torch's exporter
def test_the_runtime_of_the_guide(extended: Registry, tmp_path: Path) -> None:
    """The exported file has the model's logits."""
    import numpy as np
    import torch

    source = extended.build_model({"source": "smallnet", "num_classes": 3})
    model = source.load()
    runtime = extended.runtimes.build("onnx_reference", None, extended)
    path = tmp_path / f"model{runtime.suffix}"
    runtime.export(model, source.input_shape, path)
    images = np.random.default_rng(0).standard_normal((3, *source.input_shape), dtype=np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(runtime.open(path, 1).run(images), expected, atol=1e-5)
    assert runtime.convolutions(path) == (2, 0)
    assert runtime.describe().startswith("onnx 1.")


def test_the_dataset_and_the_metric_of_the_guide(extended: Registry) -> None:
    import numpy as np

    dataset = extended.build_dataset({"name": "stripes", "count": 500})
    splits = dataset.load((3, 32, 32), 0)
    assert splits.fingerprint() == dataset.load((3, 32, 32), 0).fingerprint()
    assert splits.fingerprint() != dataset.load((3, 32, 32), 1).fingerprint()
    metric = extended.metrics.build("worst_class", None, extended)
    labels = np.array([0, 0, 1, 1])
    half, right = np.eye(2, dtype=np.float32)[[0, 0, 1, 0]], np.eye(2, dtype=np.float32)[labels]
    (figure,) = metric.measure(mbcompress.Predictions(labels, right, half)).values()
    assert (figure.baseline, figure.value) == (100, 50)


def test_the_scripts_of_the_guide(
    guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for block in SCRIPTS:
        exec(compile(block.code, f"{GUIDE}:{block.line}", "exec"), namespace)
    assert "model.onnx" in capsys.readouterr().out
    ours, loaded = namespace["result"].model.state_dict(), namespace["model"].state_dict()
    assert all((ours[key] == loaded[key]).all() for key in ours)


def test_the_tests_of_the_guide(guide: Path, tmp_path: Path) -> None:
    """In a separate pytest process, where the fixtures come from the entry point of mbcompress."""
    for block in TESTS:
        (tmp_path / str(block.file)).write_text(block.code)
    process = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not contract", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stdout
    assert "1 passed" in process.stdout


@pytest.mark.filterwarnings("ignore")  # warnings of torch's exporter
@pytest.mark.parametrize(
    "name",
    [
        "onnx_reference",
        "smallnet",
        "stripes",
        "worst_class",
    ],
)
def test_the_guide_keeps_the_contract(name: str, extended: Registry) -> None:
    from mbcompress.testing import check_plugin

    results = check_plugin(name, extended)
    assert [str(result) for result in results if not result.passed] == []
    assert sum(result.outcome == "passed" for result in results) > 3


def test_the_pass_of_the_guide_keeps_the_contract(extended: Registry) -> None:
    from mbcompress.testing import check_component

    clip = extended.passes.classes["clip"]
    results = check_component(clip, extended, kind="pass", architectures=["mobilenet_v1"])
    assert [str(result) for result in results if result.outcome != "passed"] == []


@pytest.mark.parametrize("page", ["../README.md", *sorted(path.name for path in DOCS.glob("*.md"))])
def test_recipes_in_the_documentation(
    page: str, extended: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every complete recipe resolves."""
    package = tmp_path / "my_package"  # for recipes with `target`
    package.mkdir()
    for module, function in (("__init__", ""), ("nets", "build"), ("data", "loaders")):
        (package / f"{module}.py").write_text(function and f"def {function}(**_): ...\n")
    (tmp_path / "mine.safetensors").write_bytes(b"")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for block in blocks(page, "yaml"):
        data = yaml.safe_load(block.code)
        if isinstance(data, dict) and {"model", "data", "passes"} <= set(data):
            resolve(from_mapping(data), extended)
