"""The MLflow tracker with a local sqlite store, and without MLflow."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from mbcompress_mlflow import Tracker, figures, flatten
from toys import Lines
from toys import toy as toy

import mbcompress
from mbcompress.pipeline.notifier import Notifier

# SQLAlchemy 2.1 warns about MLflow's own tables
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

RUN = mbcompress.Run("tracked", {"seed": 0}, {"libraries": {"mbcompress": "0.1.0"}})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of an empty sqlite store, set by environment variables."""
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: pip install 'mbcompress[mlflow]'")
    pytest.importorskip("sqlalchemy", reason="MLflow cannot open sqlite: pip install 'mbcompress[mlflow]'")
    monkeypatch.chdir(tmp_path)  # where MLflow puts the files of a local store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'store.db'}")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return mlflow.MlflowClient()


def runs(store: Any) -> list[Any]:
    """All runs of all experiments."""
    listed: list[Any] = store.search_runs([experiment.experiment_id for experiment in store.search_experiments()])
    return listed


def curve(store: Any, run: Any, name: str) -> list[tuple[int, float]]:
    """A metric by step."""
    return sorted((point.step, point.value) for point in store.get_metric_history(run.info.run_id, name))


def notifier_of(progress: mbcompress.Progress, run: mbcompress.Run = RUN) -> Notifier:
    """A notifier of one run with a tracker as the only listener."""
    tracker = Tracker()
    hooks = [name for name in dir(tracker) if name.startswith("mbcompress_")]
    return Notifier({hook: [("tracker", getattr(tracker, hook))] for hook in hooks}, run, progress)


def test_a_run_in_a_store(store: Any, toy: dict[str, Any], tmp_path: Path) -> None:
    passes = [{"prune": {"target_macs": 0.8}}, {"prune": {"target_macs": 0.6}}]
    recipe = {**toy, "passes": passes, "metrics": ["calibration"], "budget": {"size_ratio": 1000}}
    progress = Lines()
    result = mbcompress.compress(None, recipe, out=tmp_path / "run", progress=progress)
    assert progress.lines == []
    (run,) = runs(store)
    assert (run.info.run_name, run.info.status) == ("recipe", "FINISHED")
    assert store.get_experiment(run.info.experiment_id).name == "mbcompress"

    assert run.data.params["passes.1.prune.target_macs"] == "0.6"
    assert run.data.params["model.source"] == "mobilenet_v1"
    assert run.data.params["passes.0.prune.round_to"] == "8"  # a default
    assert run.data.tags["mbcompress.budget"] == "missed: size_ratio"
    assert run.data.tags["mbcompress.directory"] == str(tmp_path / "run")

    report = result.report
    stages = [report["loaded"], *(step["metrics"] for step in report["passes"])]
    for name in ("validation_top1", "parameters", "macs"):
        assert curve(store, run, name) == [(step, metrics[name]) for step, metrics in enumerate(stages)]
    assert [step for step, _ in curve(store, run, "prune/achieved_ratio")] == [1, 2]
    assert [seconds for _, seconds in curve(store, run, "seconds")] == [step["seconds"] for step in report["passes"]]

    final = run.data.metrics
    for side in ("baseline", "result"):
        assert final[f"{side}/top1"] == report[side]["accuracy"]["top1"]["value"]
        assert final[f"{side}/size_bytes"] == report[side]["size_bytes"]
        assert final[f"{side}/latency_ms"] == report[side]["latency"]["median_ms"]
    assert final["ratio/macs"] == report["ratio"]["macs"]
    assert final["result/calibration.ECE"] == report["metrics"]["calibration"]["ECE"]["value"]

    files = {file.path: file.file_size for file in store.list_artifacts(run.info.run_id)}
    assert files == {path.name: path.stat().st_size for path in result.path.iterdir() if path.is_file()}
    assert {"model.npy", "baseline.npy", "report.html", "recipe.yaml", "manifest.json"} <= set(files)


@pytest.mark.parametrize(
    ("error", "status"), [(mbcompress.MbcompressError("no such data"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_failed_run_in_a_store(store: Any, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), notifier_of(Lines()).running():
        raise error
    (run,) = runs(store)
    assert run.info.status == status
    assert run.data.tags["mbcompress.error"] == f"{type(error).__name__}: {error}"
    assert run.data.params == {"seed": "0"}


def test_a_store_that_fails_at_the_end_does_not_leave_the_run_open(store: Any, tmp_path: Path) -> None:
    progress = Lines()
    notifier = notifier_of(progress)
    with notifier.running():
        pass
    notifier.finished({}, tmp_path)
    assert progress.lines == ["tracker: mbcompress_run_finished failed, continuing without it: KeyError: 'passes'"]
    assert runs(store)[0].info.status == "FINISHED"


def test_the_experiment_and_a_parent_can_be_chosen(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "sweep")
    for _ in range(2):
        with notifier_of(Lines()).running():
            pass
    assert {store.get_experiment(run.info.experiment_id).name for run in runs(store)} == {"sweep"}
    import mlflow

    with mlflow.start_run(experiment_id=store.create_experiment("theirs")) as parent, notifier_of(Lines()).running():
        pass
    (child,) = (run for run in runs(store) if "mlflow.parentRunId" in run.data.tags)
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.info.experiment_id == parent.info.experiment_id


def test_names_that_mlflow_rejects_and_many_parameters(store: Any) -> None:
    recipe = {"model": {"source": "näïve (2)!", **{f"option{n}": n for n in range(250)}, "a|b": "x" * 300}}
    progress = Lines()
    notifier = notifier_of(progress, mbcompress.Run("many", recipe, RUN.environment))
    with notifier.running():
        notifier.pass_finished(1, "sq|ueeze", {"le=ft": 0.5, "nan": float("nan"), "macs": 3}, 0.1)
    assert progress.lines == []
    (run,) = runs(store)
    assert len(run.data.params) == 252
    assert run.data.params["model.a_b"] == "x" * 300
    assert run.data.metrics == {"sq_ueeze/le_ft": 0.5, "macs": 3, "seconds": 0.1}


def test_tracking_without_mlflow_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///store.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setitem(sys.modules, "mlflow", None)  # type: ignore[arg-type]
    progress = Lines()
    notifier = notifier_of(progress)
    with notifier.running():
        notifier.pass_finished(1, "prune", {"macs": 1}, 0.1)
    notifier.finished({}, tmp_path)
    assert progress.lines == [
        "tracker: mbcompress_run_started failed, continuing without it: MLFLOW_TRACKING_URI is set, but mlflow is "
        "not installed; run pip install 'mbcompress[mlflow]', or unset the variable"
    ]


def test_a_recipe_as_parameters() -> None:
    recipe = {"passes": [{"prune": {"ratio": 0.5}}, {"qat": {}}], "measure": {"threads": [1, 2], "x": None}, "seed": 0}
    assert flatten(recipe) == {
        "passes.0.prune.ratio": "0.5",
        "passes.1.qat": "{}",
        "measure.threads": "[1, 2]",
        "measure.x": "null",
        "seed": "0",
    }


def test_figures_of_a_report() -> None:
    report = json.loads((Path(__file__).parent / "data" / "report.json").read_text())
    report["metrics"] = {"agreement": {"agreement": {"value": 99.4, "unit": "%", "better": "higher"}}}
    named = figures(report)
    assert named["ratio/latency"] == report["ratio"]["latency"]
    assert named["result/int8_convolutions"] == report["result"]["convolutions"]["int8"]
    assert (named["baseline/agreement"], named["result/agreement"]) == (None, 99.4)
