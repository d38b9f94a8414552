"""The whole chain on small models: what is written, what is measured, and what is left behind by a failure."""

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from toys import toy as toy

import mbcompress
from mbcompress.cli import main
from mbcompress.errors import PassError
from mbcompress.registry.discovery import Registry

FAST = {"rounds": 5, "round_ms": 1.0, "threads": [1]}
MODEL = {
    "source": "mobilenet_v1",
    "width": 0.5,
    "num_classes": 10,
    "input_size": 32,
    "strides_removed": 1,
    "weights": "zoo:mobilenet_v1_digits",
}
CHAIN = [
    {"prune": {"target_macs": 0.7}},
    {"distill": {"training": {"epochs": 1}}},
    {"qat": {"training": {"epochs": 1}}},
]


def recipe(**changes: Any) -> dict[str, Any]:
    return {"model": MODEL, "data": {"name": "digits"}, "passes": CHAIN, "measure": FAST, **changes}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mbcompress.Result:
    """prune, distill and qat on an untrained V1."""
    metrics = ["calibration", "agreement"]
    return mbcompress.compress(None, recipe(metrics=metrics), out=tmp_path_factory.mktemp("runs") / "chain")


def test_report_has_the_promised_fields(run: mbcompress.Result) -> None:
    report = json.loads((run.path / "report.json").read_text())
    assert report == run.report
    assert report["schema"] == 2
    for side in ("baseline", "result"):
        figures = report[side]
        assert set(figures["accuracy"]["top1"]) == {"k", "n", "value", "low", "high"}
        assert {"runtime", "threads", "median_ms", "p5_ms", "p95_ms"} <= set(figures["latency"])
        assert figures["convolutions"]["total"] == 27
        assert {"size_bytes", "compressed_bytes", "parameters", "macs"} <= set(figures)
        assert 0 <= figures["zero_weights"]["zero"] < 0.05 * figures["zero_weights"]["total"]
    assert report["baseline"]["convolutions"]["int8"] == 0
    assert report["result"]["convolutions"]["int8"] == 27
    assert {"latency", "size", "macs", "parameters"} <= set(report["ratio"])
    assert {metric: set(figures) for metric, figures in report["metrics"].items()} == {
        "calibration": {"ECE", "NLL"},
        "agreement": {"agreement"},
    }
    assert [step["name"] for step in report["passes"]] == ["prune", "distill", "qat"]
    assert all({"name", "seconds", "metrics"} <= set(step) for step in report["passes"])


def test_figures_are_those_of_the_files(run: mbcompress.Result) -> None:
    report = run.report
    (model,) = run.artifacts
    assert report["result"]["size_bytes"] == model.stat().st_size
    assert report["result"]["compressed_bytes"] == len(zlib.compress(model.read_bytes(), 9))
    assert report["ratio"]["size"] == (run.path / "baseline.onnx").stat().st_size / model.stat().st_size
    assert report["ratio"]["size"] > 2
    assert report["result"]["macs"] <= 0.7 * report["baseline"]["macs"]
    assert report["result"]["accuracy"]["top1"]["n"] == report["data"]["images"]["test"]


def test_accuracy_is_that_of_the_exported_file(
    run: mbcompress.Result, digits: mbcompress.Splits, registry: Registry
) -> None:
    runtime = registry.runtimes.build("onnx", {}, registry)
    logits = runtime.open(run.artifacts[0], 1).run(digits.normalization.apply(digits.test.pixels))
    right = int((np.argmax(logits, axis=1) == digits.test.labels).sum())
    assert abs(right - run.report["result"]["accuracy"]["top1"]["k"]) <= 1


def test_artifact_entries_and_manifest_hash_what_is_there(run: mbcompress.Result) -> None:
    manifest = json.loads((run.path / "manifest.json").read_text())
    listed = {entry["path"] for entry in manifest["files"]}
    present = {p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if p.is_file()}
    assert listed == present - {"manifest.json"}
    assert {"recipe.yaml", "environment.json", "report.json", "report.md", "report.html", "model.onnx"} <= listed
    for entry in [*manifest["files"], *run.report["artifacts"]]:
        content = (run.path / entry["path"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["bytes"] == len(content)


def test_resolved_recipe_gives_the_same_plan(run: mbcompress.Result, registry: Registry) -> None:
    from mbcompress.recipe import from_mapping, resolve

    resolved = yaml.safe_load((run.path / "recipe.yaml").read_text())
    assert resolve(from_mapping(resolved), registry).to_mapping() == resolved
    assert resolved["passes"][0]["prune"]["iterative_steps"] == 1  # defaults are written out


def test_the_compressed_model_and_every_step_come_back(run: mbcompress.Result) -> None:
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(mbcompress.load(run.path)(images), run.model(images))
        for step in ("01-prune", "02-distill", "03-qat"):
            assert mbcompress.load(run.path / "passes" / step)(images).shape == (2, 10)


class OwnNet(nn.Module):
    """Somebody's own classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1))
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(x).relu().mean((2, 3)))
        return logits


def test_own_module_with_own_splits_and_passes_as_objects(
    digits: mbcompress.Splits, tmp_path: Path, registry: Registry
) -> None:
    model = OwnNet()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    passes = [
        registry.passes.build("prune", {"target_parameters": 0.8}, registry),
        registry.passes.build("qat", {"training": {"epochs": 0}}, registry),
    ]
    result = mbcompress.compress(model, {"passes": passes, "measure": FAST}, digits, out=tmp_path / "own")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert result.report["result"]["convolutions"] == {"total": 2, "int8": 2}
    assert result.report["ratio"]["parameters"] > 1.2
    with torch.no_grad():
        assert result.model(torch.zeros(3, 3, 32, 32)).shape == (3, 10)


def test_own_module_with_a_dataset_by_name(tmp_path: Path) -> None:
    data = {"name": "digits"}
    with pytest.raises(mbcompress.MbcompressError, match=r"input_shape: is required .* for example \(3, 32, 32\)"):
        mbcompress.compress(OwnNet(), {"passes": []}, data, out=tmp_path / "run")
    chosen = {"passes": [], "measure": FAST}
    result = mbcompress.compress(OwnNet(), chosen, data, input_shape=(3, 24, 24), out=tmp_path / "run")
    assert result.report["preprocessing"]["shape"] == ["N", 3, 24, 24]
    assert result.report["paired"] == {"baseline_only": 0, "result_only": 0, "p_value": 1.0}


def test_baseline_after_compares_with_the_trained_model(toy: dict[str, Any], tmp_path: Path) -> None:
    changed = {**toy, "passes": [{"train": {"training": {"epochs": 1}}}, {"distill": {"training": {"epochs": 0}}}]}
    changed["measure"] = {**FAST, "baseline_after": 1}
    result = mbcompress.compress(None, changed, out=tmp_path / "run")
    *_, weight, _ = result.model.parameters()
    written = np.load(result.path / "baseline.npy")
    assert np.array_equal(written, weight.detach().flatten(1)[:, :3].numpy())  # what the first pass gave


def test_a_missed_budget_exits_with_3_and_names_it(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "greedy.yaml"
    budget = {"size_ratio": 1000, "accuracy_drop": 100}
    path.write_text(yaml.safe_dump({**toy, "passes": [], "budget": budget}))
    assert main(["run", str(path), "--out", str(tmp_path / "run"), "--quiet"]) == 3
    captured = capsys.readouterr()
    assert captured.err == "mbcompress: budget missed: size_ratio must be at least 1000, measured 1.00\n"
    assert captured.out == ""
    assert (tmp_path / "run" / "report.json").exists()


def test_json_prints_the_report_and_nothing_else(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump({**toy, "passes": []}))
    assert main(["run", str(path), "--out", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "run" / "report.json").read_text())


BAD_AT_RUN_TIME = {
    "labels beyond num_classes": (
        {"model": {**MODEL, "num_classes": 7, "weights": None}, "passes": []},
        r"data: has label 9, but the model has 7 outputs; set num_classes to at least 10",
    ),
    "target out of reach": (
        {"passes": [{"prune": {"target_macs": 0.001}}]},
        r"prune: target_macs 0.001 cannot be reached with round_to 16; the minimum is 0\.\d+",
    ),
    "too few images": (
        {"data": {"name": "digits", "calibration": 5000}},
        r"data: .* images are too few to split \(.*train 0.*\)",
    ),
}


@pytest.mark.parametrize("case", BAD_AT_RUN_TIME)
def test_failures_are_one_sentence_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    import re

    changes, message = BAD_AT_RUN_TIME[case]
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(recipe(**changes)))
    assert main(["run", str(path), "--out", str(tmp_path / "runs" / "x"), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1
    assert not any((tmp_path / "runs").glob("*"))


def test_a_bug_in_a_pass_keeps_its_traceback_and_leaves_nothing(tmp_path: Path, digits: mbcompress.Splits) -> None:
    class Wrong(mbcompress.Pass):
        name = "wrong"

        def apply(self, model: nn.Module, context: Any) -> Any:
            return "not a module"

    with pytest.raises(PassError, match=r"^recipe: pass 'wrong' returned 'not a module'; it must return an nn\.Module"):
        mbcompress.compress(OwnNet(), [Wrong()], digits, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_unknown_device_is_bad_input(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(mbcompress.MbcompressError, match=r"--device cuda: not available .*usable: .*cpu"):
        mbcompress.compress(None, recipe(), out=tmp_path / "run", device="cuda")
