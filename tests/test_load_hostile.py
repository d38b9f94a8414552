"""Passes that were changed, damaged or forged are refused in one sentence, and nothing of them is executed."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from round_trip import FLOAT, INT8, SHAPE, Net, described, difference, refused
from safetensors.torch import load_file, save_file

import mbcompress
from mbcompress.checkpoint.manifest import write_manifest
from mbcompress.checkpoint.saving import save_pass
from mbcompress.registry.discovery import Registry


@pytest.fixture
def run(tiny_model: Callable[..., Any], registry: Registry, tmp_path: Path) -> Path:
    """Two passes: one stored by its source, one as a graph."""
    spec = {"source": "mobilenet_v1", "num_classes": 10, "width": 0.25, "input_size": 32}
    model = tiny_model("mobilenet_v1")
    directory = tmp_path / "run"
    save_pass(directory / "passes" / "01-train", {}, model, SHAPE, FLOAT, registry.build_model(spec))
    save_pass(directory / "passes" / "02-own", {}, Net().eval(), SHAPE, FLOAT, None)
    write_manifest(directory)
    return directory


def test_a_run_is_its_last_step(run: Path) -> None:
    assert difference(mbcompress.load(run), mbcompress.load(run / "passes" / "02-own")) == 0
    shutil.copytree(run / "passes" / "01-train", run.parent / "taken out")
    assert difference(mbcompress.load(run.parent / "taken out"), mbcompress.load(run / "passes" / "01-train")) == 0


def test_runs_of_version_0_1_are_loaded_and_described(run: Path, registry: Registry) -> None:
    """They have `steps/` in place of `passes/`, and a report of schema 1."""
    from mbcompress.info import describe_artifact

    model = mbcompress.load(run)
    (run / "passes").rename(run / "steps")
    (run / "report.json").write_text('{"schema": 1, "name": "old", "steps": []}')
    (run / "environment.json").write_text("{}")
    for name in ("01-train", "02-own"):
        (run / "steps" / name / "metrics.json").write_text(f'{{"name": "{name[3:]}", "seconds": 1.5, "metrics": {{}}}}')
    write_manifest(run)
    assert difference(mbcompress.load(run), model) == 0
    assert difference(mbcompress.load(run / "steps" / "02-own"), model) == 0
    described = describe_artifact(str(run), registry)
    assert [(row["pass"], row["stored_as"]) for row in described["passes"]] == [
        ("01-train", "source"),
        ("02-own", "graph"),
    ]
    assert describe_artifact(str(run / "steps" / "01-train"), registry)["of"] == "pass 1 of 2"
    (run / "steps" / "02-own" / "graph.json").write_text("{}")
    assert "was changed after the run" in refused(run)


@pytest.mark.parametrize("name", ["architecture.json", "graph.json", "state.safetensors"])
def test_a_changed_file_is_named(run: Path, name: str) -> None:
    path = run / "passes" / "02-own" / name
    path.write_bytes(path.read_bytes() + b" ")
    assert refused(run).startswith(f"{path}: was changed after the run: manifest.json has sha256 ")
    path.unlink()
    assert refused(run) == f"{path}: no such file"


def test_a_file_that_the_run_did_not_write(run: Path) -> None:
    manifest = run / "manifest.json"
    content = json.loads(manifest.read_text())
    content["files"] = [entry for entry in content["files"] if not entry["path"].endswith("02-own/state.safetensors")]
    manifest.write_text(json.dumps(content))
    assert "state.safetensors: is not listed in " in refused(run)
    manifest.write_text('{"files": 3}')
    assert refused(run) == f"{manifest}: files: must be a list, got 3"
    manifest.unlink()
    assert refused(run) == f"{manifest}: no such file"


def test_what_is_no_step(tmp_path: Path) -> None:
    assert refused(tmp_path / "none").startswith(f"{tmp_path / 'none'}: no such directory; name a run directory, ")
    assert (
        refused(tmp_path)
        == f"{tmp_path}: is neither a run directory (no passes/) nor a pass directory (no architecture.json)"
    )
    (tmp_path / "passes").mkdir()
    assert refused(tmp_path) == f"{tmp_path}: is a run directory without passes"


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


HUGE = b'{"x":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        len(HUGE).to_bytes(8, "little") + HUGE,
        pickle.dumps(Bomb()),
        (2**40).to_bytes(8, "little") + b"{}",
    ],
    ids=["empty", "endless header", "terabytes claimed", "pickle", "header beyond the file"],
)
def test_hostile_weights(run: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    step = alone(run, "01-train")
    (step / "state.safetensors").write_bytes(content)
    assert refused(step).startswith(f"{step / 'state.safetensors'}: is not a readable safetensors file: ")
    assert capsys.readouterr().out == ""


def alone(run: Path, name: str) -> Path:
    """A step without the run's manifest, which would refuse every change."""
    return Path(shutil.copytree(run / "passes" / name, run.parent / name))


def change(path: Path, key: str, value: Any) -> None:
    content = json.loads(path.read_text())
    content[key] = value
    path.write_text(json.dumps(content))


ARCHITECTURES = {
    "another schema": ("schema", 2, "schema: must be 1, got 2"),
    "unknown key": ("evil", 1, "evil: unknown option 'evil'"),
    "unknown form": ("form", "pickle", "form: must be 'source', 'graph', 'module' or 'none', got 'pickle'"),
    "size": ("input_shape", [3, 10**9, 32], "input_shape[1]: must be at most 16777216, got 1000000000"),
    "no such layer": ("layers", {"../../etc": {"out_channels": 1}}, "unknown layer '../../etc'"),
    "attribute": ("layers", {"features.0.0": {"forward": 3}}, "layer 'features.0.0' is a Conv2d, but has forward"),
    "attributes": (
        "layers",
        {"features.0.0": {"forward\x1b": 3, **{"x" * 99 + str(n): 1 for n in range(9)}}},
        "layer 'features.0.0' is a Conv2d, but has forward\ufffd, xxx",
    ),
    "no number": ("layers", {"features.0.0": {"groups": "x"}}, "groups: must be a whole number, got 'x'"),
    "billions": (
        "layers",
        {"features.0.0": {"in_channels": 2**24, "out_channels": 2**24, "groups": 1}},
        "features.0.0.weight is 8x3x3x3 in the file and 16777216x16777216x3x3 in the model",
    ),
    "no such source": ("source", {"source": "os.system"}, "unknown model source 'os.system'"),
    "code as a source": (
        "source",
        {"source": "python", "target": "os:abort", "num_classes": 10},
        "model source 'python' cannot be rebuilt from its options",
    ),
    "option": (
        "source",
        {"source": "mobilenet_v1", "num_classes": 10, "width": 99},
        "source: width: must be at most 4",
    ),
    "another source": (
        "source",
        {"source": "mobilenet_v2", "num_classes": 10, "width": 0.25, "input_size": 32},
        "unknown layer 'features.1.0.0'",
    ),
    "no source": ("source", None, "unknown model source null"),
}


@pytest.mark.parametrize("case", ARCHITECTURES)
def test_hostile_architectures(run: Path, case: str) -> None:
    key, value, problem = ARCHITECTURES[case]
    step = alone(run, "01-train")
    change(step / "architecture.json", key, value)
    message = refused(step)
    assert message.startswith(str(step))
    assert problem in message


def test_weights_that_a_source_names_are_not_read(run: Path) -> None:
    step = alone(run, "01-train")
    source = described(step)["source"]
    change(step / "architecture.json", "source", {**source, "weights": "/nobody/has/this.pt"})
    assert difference(mbcompress.load(step), mbcompress.load(run / "passes" / "01-train")) == 0


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"{", "is not JSON: "), (b"\xff", "is not JSON: "), (b"[" * 10**6, "is not JSON: "), (b"3", "mapping, got 3")],
    ids=["cut off", "no text", "deep", "number"],
)
def test_hostile_json(run: Path, content: bytes, problem: str) -> None:
    step = alone(run, "01-train")
    (step / "architecture.json").write_bytes(content)
    assert problem in refused(step)


def call(operator: str, *args: Any, name: str = "x", **more: Any) -> dict[str, Any]:
    return {"name": name, "operator": operator, "args": list(args), **more}


def nested(levels: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(levels):
        inner = [inner]
    return inner


IMAGES, X, W = {"value": "images"}, {"value": "x"}, {"weight": "head.weight"}
GRAPHS: dict[str, tuple[Any, str]] = {
    "reads a file": (
        [call("aten.from_file.default", "/etc/passwd")],
        "operator 'aten.from_file.default' is not allowed",
    ),
    "python": ([call("builtins.eval", "print(1)")], "operator 'builtins.eval' is not allowed"),
    "dunder": ([call("aten.__class__.default", IMAGES)], "operator 'aten.__class__.default' is not allowed"),
    "from the future": ([call("aten.relu.default", {"value": "y"})], "argument {'value': 'y'} is not a known"),
    "of itself": ([call("aten.relu.default", X)], "argument {'value': 'x'} is not a known"),
    "no such weight": ([call("aten.relu.default", {"weight": "../x"})], "argument {'weight': '../x'} is not a known"),
    "two readings": ([call("aten.relu.default", {**IMAGES, **W})], "is not a known value, weight or constant"),
    "strange argument": ([call("aten.relu.default", {"dtype": "object"})], "is not a known value, weight or constant"),
    "one name twice": ([call("aten.relu.default", IMAGES)] * 2, "must have a new 'name'"),
    "kwargs": ([call("aten.relu.default", IMAGES, kwargs=[1])], "'kwargs' must be a mapping"),
    "no list": ("x", "'nodes' must be a list"),
    "no node": ([3], "node 3 must have a new 'name'"),
    "wrong shape": ([call("aten.linear.default", IMAGES, W)], "describes a model that cannot run: "),
    "wrong arguments": ([call("aten.relu.default")], "describes a model that cannot run: "),
    "no logits": ([call("aten.relu.default", IMAGES)], "returns (2, 3, 32, 32) for two images, not logits (2, K)"),
    "deep": ([call("aten.cat.default", nested(90))], "describes a model that cannot run: "),
    "deeper": ([call("aten.cat.default", nested(600))], "nests its arguments too deeply"),
    "too large": ([call("aten.pad.default", IMAGES, [2**62, 2**62])], "describes a model that cannot run: "),
    "too large to run": (
        [call("aten.pad.default", IMAGES, [0, 2**40])],
        "aten.constant_pad_nd.default returns 2x3x32x1099511627808 for two images, more than 1,073,741,824 elements",
    ),
    "too many pieces": (
        [call("aten.pad.default", IMAGES, [0, 2**20], name="wide"), call("aten.split.Tensor", {"value": "wide"}, 1, 3)],
        "splits a tensor into 1048608 pieces, more than 4096",
    ),
    "chunks": (
        [
            call("aten.pad.default", IMAGES, [0, 2**20], name="wide"),
            call("aten.chunk.default", {"value": "wide"}, 2**62, 3),
        ],
        "splits a tensor into 1048608 pieces, more than 4096",
    ),
    "lists that double": ([call("getitem", [[IMAGES, IMAGES]], 0)], "'getitem' must have a value and a whole number"),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_hostile_graphs(run: Path, case: str) -> None:
    nodes, problem = GRAPHS[case]
    step = alone(run, "02-own")
    change(step / "graph.json", "nodes", nodes)
    change(step / "graph.json", "output", X)
    message = refused(step)
    assert message.startswith(f"{step / 'graph.json'}: ")
    assert problem in message


def test_graphs_with_other_parts_wrong(run: Path) -> None:
    step = alone(run, "02-own")
    original = (step / "graph.json").read_text()
    for key, value, problem in (
        ("output", {"weight": "head.weight"}, "is not a value"),
        ("output", {"value": "nowhere"}, "is not a known value, weight or constant"),
        ("parameters", 3, "'parameters' must be a list of names"),
    ):
        (step / "graph.json").write_text(original)
        change(step / "graph.json", key, value)
        assert problem in refused(step)
    (step / "graph.json").write_text("[]")
    assert refused(step) == f"{step / 'graph.json'}: must hold a mapping"


@pytest.mark.parametrize("name", ["forward", "a..b", "a\nb", ".".join("x" * 99), "__class__", "_modules.x", "training"])
def test_names_that_no_module_can_take(run: Path, name: str) -> None:
    step = alone(run, "02-own")
    text = (step / "graph.json").read_text().replace('"head.weight"', json.dumps(name))
    (step / "graph.json").write_text(text)
    state = load_file(step / "state.safetensors")
    save_file(
        {name if key == "head.weight" else key: value for key, value in state.items()}, step / "state.safetensors"
    )
    assert "has a name that no module can take" in refused(step)


def test_other_dtypes_are_refused(run: Path) -> None:
    step = alone(run, "01-train")
    state = load_file(step / "state.safetensors")
    save_file({key: value.double() if value.is_floating_point() else value for key, value in state.items()}, step / "s")
    (step / "s").rename(step / "state.safetensors")
    assert "is torch.float64 in the file and torch.float32 in the model" in refused(step)


def test_a_graph_has_no_class_to_return_to(tmp_path: Path) -> None:
    save_pass(tmp_path / "step", {}, Net().eval(), SHAPE, INT8, None)
    assert refused(tmp_path / "step", Net()) == f"{tmp_path / 'step'}: is no longer a Net but a graph; leave out model="


def test_what_cannot_be_stored_says_why(tmp_path: Path) -> None:
    model = Net(undecided=True).eval()
    save_pass(tmp_path / "step", {}, model, SHAPE, INT8, None)
    assert refused(tmp_path / "step").startswith(f"{tmp_path / 'step'}: holds no model that can be loaded: ")
    odd = Net().eval()
    odd.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
    save_pass(tmp_path / "odd", {}, odd, SHAPE, FLOAT, None)
    assert "its state dict holds phase, which is not a tensor of a plain dtype" in refused(tmp_path / "odd")
