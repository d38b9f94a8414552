"""`mbcompress info`: what it prints about runs, passes, files and the zoo, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper
from safetensors.torch import save_file
from toys import toy as toy

import mbcompress
from mbcompress.cli import main
from mbcompress.cli.info import render
from mbcompress.info import describe_artifact
from mbcompress.registry.discovery import Registry

MODEL = {"source": "mobilenet_v1", "width": 0.25, "num_classes": 10, "input_size": 32}
RECIPE = {
    "model": MODEL,
    "data": {"name": "digits"},
    "passes": [{"prune": {"target_macs": 0.7}}, {"qat": {"distillation": None, "training": {"epochs": 0}}}],
    "measure": {"rounds": 5, "round_ms": 1.0, "threads": [1]},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mbcompress.Result:
    return mbcompress.compress(None, RECIPE, out=tmp_path_factory.mktemp("runs") / "small")


def info(capsys: pytest.CaptureFixture[str], path: object) -> tuple[dict[str, Any], str]:
    """What `info` says, as JSON and for a reader."""
    assert main(["info", str(path), "--json"]) == 0
    described: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert main(["info", str(path)]) == 0
    text = capsys.readouterr().out
    assert all(len(line) <= 112 for line in text.splitlines() if not line.startswith("path:"))
    assert f"kind: {described['kind']}\n" in text
    return described, text


def test_run(run: mbcompress.Result, capsys: pytest.CaptureFixture[str]) -> None:
    described, text = info(capsys, run.path)
    assert described["kind"] == "run"
    assert described["architecture"]["source"] == "mobilenet_v1"
    assert [each["pass"] for each in described["recipe"]] == ["prune", "qat"]
    assert described["recipe"][0]["options"]["target_macs"] == 0.7
    assert [each["stored_as"] for each in described["passes"]] == ["source", "graph"]
    assert [each["traits"] for each in described["passes"]] == [["float"], ["int8"]]
    baseline, result = described["figures"]
    assert result["int8_convolutions"] == result["convolutions"] == 27
    assert result["bytes"] == run.artifacts[0].stat().st_size < baseline["bytes"]
    assert described["libraries"]["torch"] == torch.__version__
    assert described["files"] == {"listed": len(described_files(run)), "changed": []}
    assert "changed none" in text


def described_files(run: mbcompress.Result) -> list[Any]:
    files: list[Any] = json.loads((run.path / "manifest.json").read_text())["files"]
    return files


def test_passes(run: mbcompress.Result, capsys: pytest.CaptureFixture[str]) -> None:
    pruned, text = info(capsys, run.path / "passes" / "01-prune")
    assert {"pass": "prune", "of": "pass 1 of 2", "stored_as": "source"}.items() <= pruned.items()
    assert pruned["options"]["target_macs"] == 0.7
    assert pruned["layer_counts"] == {"convolutions": 27, "batch_norms": 27, "linear": 1}
    assert pruned["metrics"]["parameters"] == run.report["passes"][0]["metrics"]["parameters"]
    assert "features.0.0" in text
    assert "more; --json has all" in text
    quantized, _ = info(capsys, run.path / "passes" / "02-qat")
    assert {"stored_as": "graph", "traits": ["int8"], "layers": []}.items() <= quantized.items()
    assert {"int8", "float32"} <= {each["dtype"] for each in quantized["state"]["dtypes"]}


def test_onnx(run: mbcompress.Result, capsys: pytest.CaptureFixture[str]) -> None:
    described, text = info(capsys, run.artifacts[0])
    assert described["convolutions"] == {"total": 27, "int8": 27}
    assert described["opset"]["ai.onnx"] == 20
    assert described["operators"]["Conv"] == 27
    (inputs,), (outputs,) = described["inputs"], described["outputs"]
    assert (inputs["name"], inputs["dtype"], inputs["shape"][1:]) == ("image", "float", [3, 32, 32])
    assert (outputs["name"], outputs["shape"][1:]) == ("logits", [10])
    sizes = {each["dtype"]: each["bytes"] for each in described["initializers"]}
    assert sizes["int8"] > sizes["float"]
    assert sum(sizes.values()) < described["bytes"]
    assert "convolutions: total 27, int8 27" in text
    baseline, _ = info(capsys, run.path / "baseline.onnx")
    assert baseline["convolutions"] == {"total": 27, "int8": 0}


def test_onnx_with_metadata_and_integer_operators(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = helper.make_node("ConvInteger", ["x", "w"], ["y"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        [onnx.numpy_helper.from_array(np.ones((1, 1, 3, 3), np.int8), "w")],
    )
    model = helper.make_model(graph, producer_name="somebody")
    helper.set_model_props(model, {"mean": "[0.5]", "evil\x1b[2J": "\x1b[31m"})
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    described, text = info(capsys, path)
    assert described["metadata"]["mean"] == "[0.5]"
    assert described["convolutions"] == {"total": 1, "int8": 1}
    assert described["inputs"][0]["shape"] == ["N", 1, 4, 4]
    assert "\x1b" not in text


def changed(path: Path, **changes: Any) -> Path:
    """A small ONNX file whose one weight is changed."""
    weight = onnx.numpy_helper.from_array(np.ones((1, 1, 3, 3), np.int8), "w")
    for key, value in changes.items():
        setattr(weight, key, value)
    inputs = [helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 1, 4, 4])]
    node = helper.make_node("ConvInteger", ["x", "w"], ["y"])
    path.write_bytes(helper.make_model(helper.make_graph([node], "g", inputs, [], [weight])).SerializeToString())
    return path


def test_onnx_with_dtypes_that_there_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    described, _ = info(capsys, changed(tmp_path / "m.onnx", data_type=99))
    assert [each["dtype"] for each in described["initializers"]] == ["unknown (99)"]


def test_onnx_with_names_that_are_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = changed(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes().replace(b"ConvInteger", b"Conv\xff\xfe\xfd\xff\xff\xff\xff"))
    described, _ = info(capsys, path)
    assert list(described["operators"]) == ["Conv" + "\ufffd" * 7]


@pytest.mark.parametrize("place", ["../../etc/passwd", "/etc/passwd", "C:\\x", "..\\x", "a/../../x", ""])
def test_onnx_with_tensors_elsewhere(tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    weight = onnx.numpy_helper.from_array(np.ones(3, np.float32), "w")
    onnx.external_data_helper.set_external_data(weight, place)
    weight.data_location = TensorProto.EXTERNAL
    node = helper.make_node("Relu", ["w"], ["y"])
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(helper.make_graph([node], "g", [], [], [weight])).SerializeToString())
    assert refused(capsys, path) == (
        f"{path}: keeps tensor 'w' in {place!r}, which must be a file below the directory of the model"
    )


def test_onnx_with_tensors_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weight = onnx.numpy_helper.from_array(np.ones(3, np.float32), "w")
    onnx.external_data_helper.set_external_data(weight, "m.bin")
    weight.data_location = TensorProto.EXTERNAL
    node = helper.make_node("Relu", ["w"], ["y"])
    onnx_model = helper.make_model(helper.make_graph([node], "g", [], [], [weight]))
    (tmp_path / "m.onnx").write_bytes(onnx_model.SerializeToString())
    described, _ = info(capsys, tmp_path / "m.onnx")
    assert described["external_data"] == ["m.bin"]


def test_tensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {
        "a.weight": torch.tensor([[0.0, 1.0], [0.0, 2.0]]),
        "a.bias": torch.zeros(2),
        "b.weight": torch.ones(2, 2, dtype=torch.bfloat16),
        "n.running_mean": torch.ones(5),
    }
    save_file(state, tmp_path / "s.safetensors")
    described, text = info(capsys, tmp_path / "s.safetensors")
    assert described["parameters"] == 4 + 2 + 4
    assert described["sparsity"] == 0.5
    by_name = {each["name"]: each for each in described["tensors"]}
    assert by_name["b.weight"] == {"name": "b.weight", "dtype": "bfloat16", "shape": [2, 2], "bytes": 8, "zeros": None}
    assert by_name["a.bias"]["zeros"] == 2
    assert "2 x 2" in text
    torch.save(state, tmp_path / "s.pt")
    checkpoint, _ = info(capsys, tmp_path / "s.pt")
    assert checkpoint["kind"] == "checkpoint"
    assert checkpoint["parameters"] == 10
    assert {each["dtype"]: each["elements"] for each in checkpoint["dtypes"]} == {"float32": 11, "bfloat16": 4}


def test_zoo(capsys: pytest.CaptureFixture[str]) -> None:
    described, text = info(capsys, "zoo:mobilenet_v2_digits")
    assert described["card"]["model"]["source"] == "mobilenet_v2"
    assert described["intact"] is True
    assert described["state"]["parameters"] == 700_490
    assert "recipe: recipes/train_v2_digits.yaml" in text


def refused(capsys: pytest.CaptureFixture[str], path: object) -> str:
    assert main(["info", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert len(err) < 600
    return err.removeprefix("mbcompress: ").rstrip()


def test_what_cannot_be_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "zoo:mobilenet_v2_digit").startswith(
        "unknown zoo weights 'mobilenet_v2_digit'; did you mean 'mobilenet_v2_digits'?"
    )
    nowhere, note = tmp_path / "nowhere", tmp_path / "note.txt"
    assert refused(capsys, nowhere) == f"{nowhere}: no such file or directory; for shipped weights, name zoo:NAME"
    note.write_text("hello")
    assert refused(capsys, note).startswith(
        f"{note}: cannot be described; name a run directory, a pass of one, a .onnx"
    )
    assert refused(capsys, tmp_path).endswith(
        "is neither a run directory (no manifest.json) nor the directory of a pass (no architecture.json)"
    )
    assert "cannot be read: File name too long" in refused(capsys, "x" * 5000)
    for name in ("m.onnx", "s.safetensors", "c.pt"):
        for content in (b"", b"hello" * 100, bytes(100)):
            (tmp_path / name).write_bytes(content)
            assert refused(capsys, tmp_path / name).startswith(f"{tmp_path / name}: is not a")


def test_checkpoints_with_code_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "c.pt")
    assert "loading it could execute code, so it was refused" in refused(capsys, tmp_path / "c.pt")


@pytest.fixture
def copy_model(run: mbcompress.Result, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(run.path, tmp_path / "copy_model"))


def test_changed_files_are_named(copy_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy_model / "report.md").write_text("better than ever")
    (copy_model / "model.onnx").unlink()
    described, text = info(capsys, copy_model)
    assert described["files"]["changed"] == ["model.onnx", "report.md"]
    assert "changed model.onnx, report.md" in text
    state = copy_model / "passes" / "02-qat" / "state.safetensors"
    state.write_bytes(b"x")
    assert refused(capsys, state.parent).startswith(f"{state}: was changed after the run: ")


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "passes/../../x"])
def test_manifests_that_point_outside(copy_model: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    manifest = {"files": [{"path": name, "bytes": 1, "sha256": "0"}]}
    (copy_model / "manifest.json").write_text(json.dumps(manifest))
    assert refused(capsys, copy_model) == f"{copy_model / 'manifest.json'}: lists {name!r}, which is outside the run"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"result": 3, "ratio": [], "passes": "x", "artifacts": null}'])
def test_damaged_reports(
    copy_model: Path, registry: Registry, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (copy_model / "report.json").write_text(content)
    if content.endswith("}"):  # a report with other contents is shown as far as it goes
        assert describe_artifact(str(copy_model), registry)["figures"][1]["bytes"] is None
        assert main(["info", str(copy_model)]) == 0
    else:
        assert refused(capsys, copy_model).startswith(f"{copy_model / 'report.json'}: ")


def test_hashes_that_are_none(copy_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = copy_model / "manifest.json"
    content = json.loads(manifest.read_text())
    for entry in content["files"]:
        entry["sha256"] = "\u202e\x1b[2J"
    manifest.write_text(json.dumps(content))
    assert refused(capsys, next((copy_model / "passes").iterdir())).isprintable()


def test_metrics_that_are_none(copy_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next((copy_model / "passes").iterdir()) / "metrics.json"
    path.write_text('{"metrics": 0.5}')
    described, _ = info(capsys, copy_model)
    assert described["passes"][0]["parameters"] is None


def test_a_recipe_that_is_none(copy_model: Path, registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    (copy_model / "recipe.yaml").write_text(yaml.safe_dump({"passes": {"a": 1}}))
    assert describe_artifact(str(copy_model), registry)["recipe"] == []
    (copy_model / "recipe.yaml").write_text("[")
    assert "recipe.yaml" in refused(capsys, copy_model)


def test_render() -> None:
    lines = list(
        render({"a_b": 1234, "none": None, "empty": [], "x": {"y": 0.5}, "t": [{"k": 1}, {"k": True, "m": "z"}]})
    )
    assert lines == ["a b: 1,234", "x: y 0.5", "t:", "  k    m", "  1    -", "  yes  z"]


@pytest.mark.parametrize("what", ["model.onnx", ".", "passes/01-prune", "passes/02-qat/state.safetensors", "zoo"])
def test_answers_without_torch(run: mbcompress.Result, what: str) -> None:
    path = "zoo:mobilenet_v1_digits" if what == "zoo" else str(run.path / what)
    code = f"import sys\nfrom mbcompress.cli import main\nmain(['info', {path!r}])\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_run_without_passes_can_be_loaded(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = mbcompress.compress(None, {**toy, "passes": []}, out=tmp_path / "run")
    images = torch.zeros(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(mbcompress.load(result.path)(images), result.model(images))
    described, _ = info(capsys, result.path / "passes" / "00-loaded")
    assert described["of"] == "pass 0 of 1"
