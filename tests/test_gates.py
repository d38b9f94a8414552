"""Every limit of a budget can be missed, and is reported with its runtime."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from plugin_packages import Install
from plugin_packages import install as install
from toys import toy as toy

import mbcompress
from mbcompress import recipe as recipes
from mbcompress.cli import main
from mbcompress.registry.discovery import Registry
from mbcompress.report.budget import budget_verdict
from mbcompress.report.build import build_report
from mbcompress.report.render import render_html, render_markdown

SIDES = {
    "accuracy_drop": ({"accuracy_drop": 0.5}, 4.0),
    "size_ratio": ({"size_ratio": 3.5}, 2.0),
    "latency_ratio": ({"latency_ratio": 1.5}, 0.8),
    "int8_share": ({"int8_share": 1.0}, 0.5),
}


def comparison(runtime: str, missed: str | None) -> dict[str, Any]:
    """The figures of a good int8 network, apart from one."""
    values = {"accuracy_drop": 0.0, "size_ratio": 4.0, "latency_ratio": 2.0, "int8_share": 1.0}
    if missed:
        values[missed] = SIDES[missed][1]
    top1 = {"baseline": 0.9, "result": 0.9 - values["accuracy_drop"] / 100}
    convolutions = {"baseline": 0, "result": round(52 * values["int8_share"])}
    sides = {
        side: {
            "accuracy": {"top1": {"value": top1[side]}},
            "convolutions": {"total": 52, "int8": convolutions[side]},
        }
        for side in ("baseline", "result")
    }
    ratio = {"size": values["size_ratio"], "latency": values["latency_ratio"]}
    return {"runtime": runtime, **sides, "ratio": ratio}


@pytest.mark.parametrize("name", SIDES)
@pytest.mark.parametrize("failing", [0, 1])
def test_a_missed_limit_is_reported_with_its_runtime(
    name: str, failing: int, registry: Registry, digits: mbcompress.Splits, tmp_path: Path
) -> None:
    spec = {
        "model": {"source": "mobilenet_v1", "num_classes": 10},
        "data": {"name": "digits"},
        "passes": [],
        "export": ["onnx", "openvino"],
        "budget": {key: limit for options, _ in SIDES.values() for key, limit in options.items()},
    }
    pytest.importorskip("openvino")
    plan = recipes.resolve(recipes.from_mapping(spec), registry)
    for runtime in plan.export:
        for stem in ("model", "baseline"):
            (tmp_path / plan.artifact(stem, runtime)).touch()
    compared = [comparison(f"Engine {index}", name if index == failing else None) for index in range(2)]
    records = [{"name": "loaded", "seconds": 0, "metrics": {}}]
    report = build_report(plan, digits, 10, records, compared, [], {}, tmp_path)
    missed = [(gate["name"], gate["runtime"]) for gate in report["budget"] if not gate["met"]]
    assert missed == [(name, ("onnx", "openvino")[failing])]
    verdict = budget_verdict(report)
    assert verdict.worse
    assert verdict.text.startswith("1 of 8 budget limits MISSED: ")
    assert verdict.text.endswith(f", {('onnx', 'openvino')[failing]}")


SECOND = '''
from mb_toy import Toy


class Second(Toy):
    """Like Toy, with float convolutions."""

    name: ClassVar[str] = "second"
    suffix: ClassVar[str] = ".second.npy"

    def convolutions(self, path):
        return mbcompress.ConvolutionCount(2, 0)

    def describe(self):
        return "Second 2"


@mbcompress.hookimpl
def mbcompress_runtimes():
    return [Second]
'''


@pytest.fixture
def two_toys(toy: dict[str, Any], install: Install) -> dict[str, Any]:
    install("mb-second", SECOND, plugin="second")
    return {**toy, "export": ["toy", "second"]}


def test_a_run_for_two_runtimes_names_the_one_that_misses(
    two_toys: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "both.yaml"
    budget = {"int8_share": 0.5, "accuracy_drop": 100}
    path.write_text(yaml.safe_dump({**two_toys, "passes": [], "budget": budget}))
    assert main(["run", str(path), "--out", str(tmp_path / "run"), "--quiet"]) == 3
    captured = capsys.readouterr()
    assert captured.err == "mbcompress: budget missed: int8_share must be at least 0.5, measured 0.00, in second\n"
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [side["runtime"] for side in report["runtimes"]] == ["Toy 1", "Second 2"]
    assert [side["file"] for side in report["runtimes"]] == ["model.npy", "model.second.npy"]
    assert report["runtimes"][0]["ratio"] == {"median": 1.0, "p5": 1.0, "p95": 1.0}
    assert report["runtimes"][1]["agreement"]["value"] == 1.0
    for text in (render_markdown(report), render_html(report)):
        assert "relative to Toy 1" in text
        assert "int8 convolutions, second" in text
        assert "model.second.npy" in text
