"""The pass: eligible layers, folding, decisions, and loading the result."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mbcompress_winograd import Depthwise, Winograd, substitution
from mbcompress_winograd.candidates import Timing
from mbcompress_winograd.decisions import ORIGINAL, Decisions
from mbcompress_winograd.graph import find_depthwise, replace_depthwise
from torch import nn

from mbcompress import MbcompressError, load
from mbcompress.checkpoint.operators import operator_sets
from mbcompress.checkpoint.pass_directory import open_pass
from mbcompress.checkpoint.saving import save_pass
from mbcompress.contract.traits import Trait
from mbcompress.graph import ExportedGraph, count_macs, export_graph
from mbcompress.measure import processor
from mbcompress.registry.discovery import Registry

Model = Callable[..., Any]


class Odd(nn.Module):
    """Convolutions with groups of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.plain = nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.same = nn.Conv2d(8, 8, 3, padding="same", groups=8, bias=False)
        self.large = nn.Conv2d(8, 8, 5, 1, 2, groups=8)
        self.dilated = nn.Conv2d(8, 8, 3, 1, 2, dilation=2, groups=8)
        self.unpadded = nn.Conv2d(8, 8, 3, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, 1, 1, groups=2)
        self.third = nn.Conv2d(8, 8, 3, 3, 1, groups=8)
        self.second = nn.Conv2d(8, 8, 3, 2, 1, groups=8)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        plain = self.plain(x)
        x = nn.functional.hardswish(plain) + plain  # read twice: nothing can be folded
        x = self.second(nn.functional.relu(self.same(x)))
        x = self.unpadded(self.grouped(self.dilated(self.large(x))))
        y: torch.Tensor = self.head(self.third(x).mean((2, 3)))
        return y


def test_eligible_layers_and_reasons_against_others() -> None:
    layers, others = find_depthwise(export_graph(Odd().eval(), torch.zeros(2, 3, 32, 32), "test"))
    assert [(each.name, each.stride, each.activation) for each in layers] == [
        ("plain", 1, "none"), ("same", 1, "relu"), ("second", 2, "none"),
    ]  # fmt: skip
    assert others == [
        "large (kernel 5x5, not 3x3)",
        "dilated (dilation 2x2)",
        "grouped (2 groups for 8 channels, not depthwise)",
        "unpadded (padding 0x0, not 1x1)",
        "third (stride 3x3)",
    ]


@pytest.mark.parametrize(("source", "count", "not_eligible"), [
    ("mobilenet_v1", 13, 0), ("mobilenet_v2", 17, 0), ("mobilenet_v3_small", 3, 8),
])  # fmt: skip
@pytest.mark.parametrize("tile", ["direct", "f2", "f2x2"])
def test_mobilenets_answer_the_same(
    source: str, count: int, not_eligible: int, tile: str, tiny_model: Model, make_context: Model
) -> None:
    model = tiny_model(source)
    context = make_context(model)
    before = copy.deepcopy(model.state_dict())
    changed = Winograd(mode="force", tile=tile).apply(model, context)
    images = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(changed(images), model(images), rtol=1e-3, atol=1e-4)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert context.metrics["substituted"] == context.metrics["depthwise_layers"] == count
    found = Decisions.model_validate_json(context.files["winograd.json"])
    assert len(found.others) == not_eligible
    assert {each.chosen for each in found.layers if each.stride == 1} == {tile}
    assert {each.chosen for each in found.layers if each.stride == 2} <= {"direct"}
    assert max(each.best.error for each in found.layers) < 1e-5
    assert count_macs(changed, images) == count_macs(model, images)
    assert context.files["winograd.svg"].startswith("<svg")
    assert len(context.files["winograd.csv"].splitlines()) == 1 + sum(len(each.candidates) for each in found.layers)


def test_report_changes_nothing_and_shows_the_table(tiny_model: Model, make_context: Model) -> None:
    model = tiny_model("mobilenet_v3_small")
    said: list[str] = []
    context = make_context(model)
    context.progress.say = said.append
    assert Winograd(mode="report").apply(model, context) is model
    assert any(line.startswith("features.3.block.1.0 24x4x4/1: ") for line in said)
    assert "not eligible: features.4.block.1.0 (kernel 5x5, not 3x3)" in said
    assert json.loads(context.files["winograd.json"])["cpu"] == processor().model
    assert "substituted" not in context.metrics
    assert any(f"would substitute {context.metrics['would_substitute']} of 3 " in line for line in said)


def timed(name: str, microseconds: float, speedup: float, error: float = 1e-7) -> Timing:
    return Timing(name, microseconds, speedup, error)


@pytest.mark.parametrize(
    ("measured", "chosen"),
    [
        ([timed("eager", 10, 1), timed("direct", 9.6, 1.04), timed("f2", 11, 0.9)], ORIGINAL),
        ([timed("eager", 10, 1), timed("direct", 9, 1.11), timed("f2", 8, 1.25)], "f2"),
        ([timed("eager", 10, 1), timed("direct", 9, 1.11), timed("f2", 8, 1.25, 1e-3)], "direct"),
        ([timed("onednn", 10, 1), timed("direct", 9, 1.11, float("inf"))], ORIGINAL),
    ],
)
def test_only_faster_and_exact_kernels_are_chosen(measured: list[Timing], chosen: str) -> None:
    assert substitution._choose(measured, Winograd()) == chosen


def test_the_whole_network_must_be_faster_and_exact(
    tiny_model: Model, make_context: Model, monkeypatch: pytest.MonkeyPatch, registry: Registry
) -> None:
    model = tiny_model("mobilenet_v1")
    runtime = registry.runtimes.build("torch", {"mode": "eager"}, registry)
    fast = [timed("eager", 10, 1), timed("direct", 1, 10)]
    monkeypatch.setattr(substitution, "measure", lambda *_: fast)
    monkeypatch.setattr("mbcompress.measure.ExportBenchmark.speedup", lambda *_: [0.8, 0.9, 0.99])
    context = make_context(model, runtimes=(runtime,))
    assert Winograd(tolerance=1e-4).apply(model, context) is model
    assert context.metrics["substituted"] == 0
    assert context.metrics["network_speedup"] == 0.9
    (note,) = json.loads(context.files["winograd.json"])["notes"]
    assert note == "nothing is substituted: the whole model would be 0.90 times as fast"
    monkeypatch.setattr("mbcompress.measure.ExportBenchmark.speedup", lambda *_: [1.1, 1.2, 1.3])
    context = make_context(model, runtimes=(runtime,))
    assert isinstance(Winograd(tolerance=1e-4).apply(model, context), ExportedGraph)
    context = make_context(model, runtimes=(runtime,))
    assert Winograd(tolerance=1e-12).apply(model, context) is model


def test_decisions_hold_for_one_machine(
    tiny_model: Model, make_context: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("mobilenet_v1")
    first = make_context(model)
    Winograd(mode="force", tile="f2").apply(model, first)
    path = tmp_path / "winograd.json"
    path.write_text(first.files["winograd.json"])

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(substitution, "measure", never)
    again = make_context(model)
    Winograd(mode="force", tile="f2", decisions=path).apply(model, again)
    assert json.loads(again.files["winograd.json"])["layers"] == json.loads(path.read_text())["layers"]
    document = json.loads(path.read_text())
    for layer in document["layers"]:  # what was forced then is not fast and exact enough for 'auto'
        layer["candidates"][1] |= {"speedup": 0.5, "error": 1e-3}
    path.write_text(json.dumps(document))
    careful = make_context(model)
    assert Winograd(tile="f2", decisions=path).apply(model, careful) is model
    assert careful.metrics["substituted"] == 0
    monkeypatch.undo()
    everything = make_context(model)
    Winograd(mode="force", decisions=path).apply(model, everything)
    notes = json.loads(everything.files["winograd.json"])["notes"]
    assert notes == ["decisions measured again: the earlier run did not measure all kernels of 'tile'"]
    for change, note in (
        ({"cpu": "Another"}, f"decisions measured again: cpu was 'Another' and is {processor().model!r}"),
        ({"kernel": "portable"}, f"decisions measured again: kernel was 'portable' and is {document['kernel']!r}"),
        ({"threads": 2}, "decisions measured again: threads was 2 and is 1"),
        ({"layers": document["layers"][1:]}, "decisions measured again: the layers differ"),
    ):
        path.write_text(json.dumps({**document, **change}))
        other = make_context(model)
        Winograd(mode="force", tile="direct", decisions=path).apply(model, other)
        assert json.loads(other.files["winograd.json"])["notes"] == [note]


def test_decisions_for_all_tiles_hold(
    tiny_model: Model, make_context: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers with a stride have fewer candidates than others."""
    model, path = tiny_model("mobilenet_v1"), tmp_path / "winograd.json"

    def measured(layer: Any, x: torch.Tensor, tiles: list[str]) -> list[Timing]:
        assert layer.stride == 1 or tiles == ["direct"]
        return [Timing(name, 1.0, 1.0, 0.0) for name in (ORIGINAL, *tiles)]

    monkeypatch.setattr(substitution, "measure", measured)
    first, again = make_context(model), make_context(model)
    Winograd(mode="report").apply(model, first)
    path.write_text(first.files["winograd.json"])
    Winograd(mode="report", decisions=path).apply(model, again)
    assert json.loads(again.files["winograd.json"])["notes"] == ["using the measurements of an earlier run"]


def test_files_that_are_no_decisions(tiny_model: Model, make_context: Model, tmp_path: Path) -> None:
    path = tmp_path / "winograd.json"
    with pytest.raises(ValueError, match=r"no such file '.*winograd\.json'; name a winograd\.json, or leave"):
        Winograd(decisions=path)
    path.write_text("{}")
    step, model = Winograd(decisions=path), tiny_model("mobilenet_v1")
    with pytest.raises(MbcompressError, match=r"winograd: decisions: .*winograd\.json is not a winograd"):
        step.apply(model, make_context(model))
    path.unlink()
    with pytest.raises(MbcompressError, match=r"winograd: decisions: .*winograd\.json cannot be read: No such file"):
        step.apply(model, make_context(model))


class Twice(nn.Module):
    """One depthwise layer called twice, with a BatchNorm after each call, and a convolution without a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))
        self.kernel = nn.Parameter(torch.randn(8, 1, 3, 3))
        self.once, self.classifier = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Linear(8, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.stem(images)
        for norm in self.norms:
            x = norm(self.depthwise(x)).relu()
        x = self.once(torch.conv2d(x, self.kernel, None, 1, 1, 1, 8))
        logits: torch.Tensor = self.classifier(x.mean((2, 3)))
        return logits


def test_weights_that_are_not_one_layers_stay(make_context: Model) -> None:
    torch.manual_seed(0)
    model = Twice().eval()
    for norm in model.norms:
        nn.init.uniform_(norm.weight, 0.2, 3)
    context = make_context(model)
    substituted = Winograd(mode="force", tile="f2").apply(model, context)
    found = json.loads(context.files["winograd.json"])
    assert [layer["layer"] for layer in found["layers"]] == ["once"]
    used = "depthwise (its weights are used 2 times)"
    assert found["others"] == [used, used, "kernel (its weights are not a layer's)"]
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(substituted(images), model(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_refused(dtype: torch.dtype, tiny_model: Model, make_context: Model) -> None:
    model = tiny_model("mobilenet_v1")
    context = make_context(model)
    with pytest.raises(MbcompressError, match=r"0\.0\.weight is b?float16; Winograd transforms in half precision"):
        Winograd().apply(model.to(dtype), context)


def test_a_model_without_such_layers_is_refused(make_context: Model) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.Conv2d(4, 4, 5, groups=4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.append(nn.Linear(4, 10)).eval()
    problem = r"winograd: no depthwise 3x3 layer can be replaced: 1 \(kernel 5x5, not 3x3\)"
    with pytest.raises(MbcompressError, match=problem):
        Winograd().apply(model, make_context(model))


def test_the_result_comes_back_from_files(tiny_model: Model, registry: Registry, tmp_path: Path) -> None:
    model = tiny_model("mobilenet_v2")
    graph = export_graph(model, torch.zeros(2, 3, 32, 32), "test")
    layers, _ = find_depthwise(graph)
    changed = ExportedGraph(replace_depthwise(graph, {layers[0].name: "f2", layers[2].name: "f2x2"}, layers)).eval()
    save_pass(tmp_path / "01-winograd", {}, changed, (3, 32, 32), frozenset(), None, operator_sets(registry))
    assert open_pass(tmp_path / "01-winograd").architecture().form == "graph"
    stored = json.loads((tmp_path / "01-winograd" / "graph.json").read_text())
    assert [node["operator"] for node in stored["nodes"]].count("mbcompress.depthwise3x3.default") == 2
    again = load(tmp_path / "01-winograd")
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(images), changed(images))


def test_operators_without_a_plugin_are_refused(tmp_path: Path, tiny_model: Model) -> None:
    save_pass(tmp_path / "01-own", {}, tiny_model("mobilenet_v1"), (3, 32, 32), frozenset(), None)
    path = tmp_path / "01-own" / "graph.json"
    for name in ("mbcompress.other.default", "unknown.op.default", "aten.from_file.default"):
        path.write_text(path.read_text().replace("aten.relu6_.default", name).replace("aten.hardtanh_.default", name))
        with pytest.raises(MbcompressError, match=f"operator '{name}' is not allowed"):
            load(tmp_path / "01-own")
        path.write_text(path.read_text().replace(name, "aten.relu6_.default"))


def test_operator_set_is_registered(registry: Registry) -> None:
    origin, offered = registry.operators["mbcompress"]
    assert origin.plugin == "mbcompress_winograd"
    assert isinstance(offered, Depthwise)
    assert offered.status.startswith(("compiled, ", "slow Python reference: "))
    assert Trait.FLOAT in Winograd.destroys
