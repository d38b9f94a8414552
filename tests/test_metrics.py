"""Metrics: built-in ones against values computed by hand, broken ones of plugins, and all renderings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plugin_packages import Install
from toys import MODEL
from toys import toy as toy

import mbcompress
from mbcompress.cli import main
from mbcompress.contract.metrics import Measured, Metric, Predictions
from mbcompress.errors import MetricError
from mbcompress.measure.metrics import Metrics
from mbcompress.recipe import from_mapping, resolve
from mbcompress.registry.discovery import Origin, Registry, discover
from mbcompress.registry.registry import Kind
from mbcompress.report.comparison import metric_change, metric_value


def logits_of(confidence: list[float]) -> np.ndarray:
    """Two-class logits that give class 0 these probabilities: (N, 2)."""
    p = np.array(confidence)
    return np.stack([np.log(p), np.log(1 - p)], axis=1).astype(np.float32)


def measure(registry: Registry, name: str, predictions: Predictions, **options: Any) -> dict[str, Measured]:
    return registry.metrics.build(name, options, registry).measure(predictions)


def test_calibration_error_by_hand(registry: Registry) -> None:
    """Two bins: three images at 0.8, two of them correct; one at 0.4, predicted as class 1 with 0.6, correct."""
    logits, labels = logits_of([0.8, 0.8, 0.8, 0.4]), np.array([0, 0, 1, 1])
    figures = measure(registry, "calibration", Predictions(labels, logits, logits), bins=10)
    expected = 100 * (3 / 4 * abs(2 / 3 - 0.8) + 1 / 4 * abs(1 - 0.6))
    assert figures["ECE"].value == pytest.approx(expected, rel=1e-6)
    assert figures["ECE"].baseline == pytest.approx(expected, rel=1e-6)
    # in one bin, over- and underconfidence cancel out: 3 of 4 correct at a mean confidence of 0.75
    assert measure(registry, "calibration", Predictions(labels, logits, logits), bins=2)["ECE"].value < 1e-4


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin(registry: Registry) -> None:
    """Guo's bins are half-open, (a, b], so that confidence 1.0 has a bin: three of four correct, all at 1.0."""
    logits = np.array([[200.0, -200.0]] * 4, np.float32)
    figures = measure(registry, "calibration", Predictions(np.array([0, 0, 0, 1]), logits, logits))
    assert figures["ECE"].value == pytest.approx(25)
    assert figures["NLL"].value == pytest.approx(100)  # a quarter of 400 nats: no overflow


@pytest.mark.parametrize("seed", range(3))
def test_likelihood_is_torchs_cross_entropy(registry: Registry, seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 5, (2, 200, 10)).astype(np.float32)
    labels = generator.integers(0, 10, 200)
    figures = measure(registry, "calibration", Predictions(labels, *logits))
    for found, of in ((figures["NLL"].baseline, logits[0]), (figures["NLL"].value, logits[1])):
        assert found == pytest.approx(torch.nn.functional.cross_entropy(torch.tensor(of), torch.tensor(labels)).item())
    assert 0 <= figures["ECE"].value <= 100


def test_labels_drawn_by_the_probabilities_are_calibrated(registry: Registry) -> None:
    generator = np.random.default_rng(0)
    p = generator.uniform(0.02, 0.98, 200_000)
    labels = (generator.random(len(p)) > p).astype(np.int64)
    honest, bold = logits_of(list(p)), 3 * logits_of(list(p))
    figures = measure(registry, "calibration", Predictions(labels, honest, bold))
    assert figures["ECE"].baseline is not None
    assert figures["ECE"].baseline < 0.5
    assert figures["ECE"].value > 10


def test_agreement_counts_equal_predictions(registry: Registry) -> None:
    before = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [np.nan, 0]], np.float32)
    after = np.array([[2, 0], [0, 2], [0, 2], [0, 2], [np.nan, 0]], np.float32)
    figures = measure(registry, "agreement", Predictions(np.zeros(5, np.int64), before, after))
    assert figures == {"agreement": Measured(60, "%", "higher")}


def test_calibration_of_a_broken_model_is_undefined(registry: Registry) -> None:
    fine, broken = np.zeros((4, 2), np.float32), np.full((4, 2), np.inf, np.float32)
    chosen = [registry.metrics.build("calibration", {}, registry)]
    figures = Metrics(chosen, registry.metrics).measure(Predictions(np.zeros(4, np.int64), fine, broken))
    assert figures["calibration"]["ECE"] == {"value": None, "baseline": 50.0, "unit": "%", "better": "lower"}
    json.dumps(figures, allow_nan=False)
    assert metric_value(None, "%", 4) == "undefined"
    assert metric_change(50.0, None, "%", 4, "lower").text == "UNDEFINED"
    assert metric_change(50.0, None, "%", 4, "lower").worse


class Odd(Metric):
    """Returns `gives`."""

    name = "odd"
    gives: Any = None

    def measure(self, predictions: Predictions) -> dict[str, Measured]:
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("gives", "problem"),
    [
        (ZeroDivisionError("division by zero"), "raised ZeroDivisionError: division by zero"),
        (0.5, "must return a dict of Measured, got 0.5"),
        ({"x": 0.5}, "must return Measured for 'x', got 0.5"),
        (
            {"x": Measured(0.5, "%", "max")},  # type: ignore[arg-type]
            "must return 'higher', 'lower' or None as 'better' and text as 'unit' for 'x', got Measured(value=0.5, ",
        ),
        ({"x": Measured("high")}, "must return numbers for 'x', got Measured(value='high', unit='', better=None, "),  # type: ignore[arg-type]
    ],
)
def test_a_metric_that_breaks_the_contract_is_named(gives: Any, problem: str) -> None:
    kind: Kind[Metric] = Kind("metric", Metric)
    kind.register(Odd, Origin("odds", "mb-odds", "2.0"))
    with pytest.raises(MetricError) as raised:
        Metrics([Odd(gives=gives)], kind).dry_run(10)
    assert str(raised.value).startswith(f"metrics: 'odd' (plugin 'odds' of mb-odds 2.0) {problem}")


RECIPE_MISTAKES = [
    (["calibratoin"], "metrics[0].calibratoin: unknown metric 'calibratoin'; did you mean 'calibration'? (known: a"),
    ([{"calibration": {"bin": 3}}], "metrics[0].calibration.bin: unknown option 'bin'; did you mean 'bins'?"),
    ([{"calibration": {"bins": 1}}], "metrics[0].calibration.bins: must be at least 2, got 1"),
    (["agreement", "agreement"], "metrics[1]: 'agreement' is named twice; a report lists each metric once"),
    ("agreement", "metrics: must be a list, got 'agreement'"),
    ([["agreement"]], "metrics[0]: must be one metric, as 'name' or 'name: {option: value}', got ['agreement']"),
]


@pytest.mark.parametrize(("metrics", "message"), RECIPE_MISTAKES)
def test_invalid_metrics_are_rejected_when_the_recipe_is_read(registry: Registry, metrics: Any, message: str) -> None:
    with pytest.raises(mbcompress.RecipeError) as raised:
        resolve(from_mapping({"model": MODEL, "data": {"name": "digits"}, "passes": [], "metrics": metrics}), registry)
    assert message in str(raised.value)


def test_every_rendering_shows_the_metrics(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.yaml"
    passes = [{"prune": {"target_macs": 0.5}}]
    recipe.write_text(json.dumps({**toy, "passes": passes, "metrics": ["agreement", {"calibration": {"bins": 10}}]}))
    assert main(["run", str(recipe), "--out", str(tmp_path / "run")]) == 0
    console = capsys.readouterr().out
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert list(report["metrics"]) == ["agreement", "calibration"]
    calibration = report["metrics"]["calibration"]
    assert set(calibration["ECE"]) == {"value", "baseline", "unit", "better"}
    assert set(report["metrics"]["agreement"]["agreement"]) == {"value", "unit", "better"}
    images = report["result"]["accuracy"]["top1"]["n"]
    shown = [metric_value(calibration[name][side], "", images) for name in ("NLL",) for side in ("baseline", "value")]
    shown += [metric_value(calibration["ECE"][side], "%", images) for side in ("baseline", "value")]
    for text in (console, *((tmp_path / "run" / f"report.{kind}").read_text() for kind in ("md", "html"))):
        assert all(part in text for part in ("calibration, ECE", "calibration, NLL", "agreement", *shown))
    assert "Expected calibration error (ECE)" in (tmp_path / "run" / "report.html").read_text()


CONFUSED = '''
class Worst(mbcompress.Metric):
    """Lowest accuracy of a class."""

    name: ClassVar[str] = "worst_class"

    def measure(self, predictions):
        def worst(logits):
            right = logits.argmax(1) == predictions.labels
            return 100 * min(right[predictions.labels == label].mean() for label in set(predictions.labels))
        before, after = worst(predictions.baseline), worst(predictions.result)
        return {"worst_class": mbcompress.Measured(after, "%", "higher", before)}


class Late(mbcompress.Metric):
    "Fails."

    name: ClassVar[str] = "late"

    def measure(self, predictions):
        raise KeyError("nothing")


@mbcompress.hookimpl
def mbcompress_metrics():
    return [Worst, Late]
'''


def test_a_metric_of_a_plugin(toy: dict[str, Any], tmp_path: Path, install: Install) -> None:
    install("mb-confused", CONFUSED, plugin="confused")
    recipe = {**toy, "passes": [], "metrics": ["worst_class"]}
    report = mbcompress.compress(None, recipe, out=tmp_path / "run").report
    figure = report["metrics"]["worst_class"]["worst_class"]
    assert figure["value"] == figure["baseline"]
    assert "| worst class |" in (tmp_path / "run" / "report.md").read_text()
    listed = [plugin["distribution"] for plugin in report["environment"]["plugins"] if plugin["name"] == "worst_class"]
    assert listed == ["mb-confused"]


def test_a_failing_metric_fails_before_the_passes(toy: dict[str, Any], tmp_path: Path, install: Install) -> None:
    install("mb-confused", CONFUSED, plugin="confused")
    assert discover().broken == []
    impossible = {**toy, "passes": [{"prune": {"target_macs": 0.001}}], "metrics": ["late"]}
    with pytest.raises(MetricError, match=r"'late' \(plugin 'confused' of mb-confused 1\.2\) raised KeyError"):
        mbcompress.compress(None, impossible, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("before", "after", "unit", "better", "text", "worse"),
    [
        (2.0, 3.3, "%", "lower", "1.3 points HIGHER", True),
        (3.3, 2.0, "%", "lower", "1.3 points lower", False),
        (90.0, 89.0, "%", "higher", "1.0 points LOWER", True),
        (90.0, 89.0, "%", None, "1.0 points lower", False),
        (0.25, 0.375, "nats", "lower", "0.125 nats HIGHER", True),
        (0.25, 0.375, "", "higher", "0.125 higher", False),
        (0.25, 0.25, "nats", "lower", "same", False),
        (None, 0.25, "nats", "lower", "", False),
    ],
)
def test_changes_as_text(
    before: float | None, after: float | None, unit: str, better: str | None, text: str, worse: bool
) -> None:
    change = metric_change(before, after, unit, 359, better)
    assert (change.text, change.worse) == (text, worse)
