"""Log runs to MLflow: parameters, metrics of each pass, final metrics and files. Needs the extra `mlflow`.

Active only if MLFLOW_TRACKING_URI is set (`mlflow.set_tracking_uri` sets it too). MLFLOW_EXPERIMENT_ID or
MLFLOW_EXPERIMENT_NAME selects the experiment (default: `mbcompress`). If the calling program has an active run, it
becomes the parent run, which groups the runs of a sweep. MLflow is imported when a run starts.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mbcompress import MbcompressError, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mbcompress import Run

TRACKING_URI = "MLFLOW_TRACKING_URI"
EXPERIMENT_ID, EXPERIMENT_NAME = "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"
DISABLE_TELEMETRY = "MLFLOW_DISABLE_TELEMETRY"
LONGEST_KEY = 250
MOST_PARAMETERS = 100  # per request


@dataclass(frozen=True)
class MlflowRun:
    """The MLflow run of an mbcompress run."""

    client: Any
    id: str

    def log_metrics(self, metrics: Mapping[str, Any], step: int) -> None:
        """Log the finite numbers among `metrics`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        numbers = [Metric(_key(name), float(value), now, step) for name, value in metrics.items() if _is_number(value)]
        self.client.log_batch(self.id, metrics=numbers)

    def log_parameters(self, parameters: Mapping[str, str]) -> None:
        """Log parameters in as many requests as necessary."""
        from mlflow.entities import Param

        listed = [Param(_key(name), value) for name, value in parameters.items()]
        for start in range(0, len(listed), MOST_PARAMETERS):
            self.client.log_batch(self.id, params=listed[start : start + MOST_PARAMETERS])


class Tracker:
    """The lifecycle hooks; `entries` maps mbcompress run ids to MLflow runs."""

    def __init__(self) -> None:
        self.entries: dict[str, MlflowRun] = {}

    @hookimpl
    def mbcompress_run_started(self, run: Run) -> None:
        if not os.environ.get(TRACKING_URI):
            return
        with _mlflow() as mlflow:
            client, parent = mlflow.MlflowClient(), mlflow.active_run()
            experiment = parent.info.experiment_id if parent else _experiment(client)
            tags = {"mbcompress.run": run.id, "mbcompress.version": str(run.environment["libraries"]["mbcompress"])}
            if parent:
                tags["mlflow.parentRunId"] = parent.info.run_id
            entry = MlflowRun(client, client.create_run(experiment, tags=tags, run_name=run.name).info.run_id)
            self.entries[run.id] = entry
            entry.log_parameters(flatten(run.recipe))

    @hookimpl
    def mbcompress_pass_finished(
        self, run: Run, index: int, name: str, metrics: Mapping[str, Any], seconds: float
    ) -> None:
        if entry := self.entries.get(run.id):
            with _mlflow():
                entry.log_metrics(_named(name, {**metrics, "seconds": seconds}), index)

    @hookimpl
    def mbcompress_run_failed(self, run: Run, error: BaseException) -> None:
        if entry := self.entries.pop(run.id, None):
            with _mlflow():
                entry.client.set_tag(entry.id, "mbcompress.error", f"{type(error).__name__}: {error}")
                entry.client.set_terminated(entry.id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")

    @hookimpl
    def mbcompress_run_finished(self, run: Run, report: Mapping[str, Any], directory: Path) -> None:
        if entry := self.entries.pop(run.id, None):
            with _mlflow():
                try:
                    _log_result(entry, run, report, directory)
                finally:
                    entry.client.set_terminated(entry.id, "FINISHED")


tracker = Tracker()


def flatten(value: Any, path: str = "") -> dict[str, str]:
    """Flatten a recipe to parameters: {'passes.0.prune.target_macs': '0.5', 'measure.threads': '[1]'}."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        return {path: value if isinstance(value, str) else json.dumps(value)}
    inner = (flatten(item, f"{path}.{key}" if path else str(key)) for key, item in value.items())
    return {key: text for part in inner for key, text in part.items()}


def figures(comparison: Mapping[str, Any]) -> dict[str, float | None]:
    """The metrics of both files in one runtime: {'result/top1': 0.98, 'ratio/latency': 2.1, …}."""
    named: dict[str, float | None] = {f"ratio/{name}": comparison["ratio"][name] for name in _RATIOS}
    named["p_value"] = comparison["paired"]["p_value"]
    for side in ("baseline", "result"):
        measured = comparison[side]
        named |= {f"{side}/{name}": of["value"] for name, of in measured["accuracy"].items()}
        named |= {f"{side}/{name}": measured[name] for name in ("size_bytes", "parameters", "macs")}
        named[f"{side}/latency_ms"] = measured["latency"]["median_ms"]
        named[f"{side}/peak_memory_bytes"] = measured["memory"]["peak_bytes"]
        named[f"{side}/convolutions"] = measured["convolutions"]["total"]
        named[f"{side}/compressed_bytes"] = measured["compressed_bytes"]
        if counted := measured["zero_weights"]:
            named[f"{side}/zero_weights"] = counted["zero"] / max(1, counted["total"])
        named[f"{side}/int8_convolutions"] = measured["convolutions"]["int8"]
    for metric, measured in comparison["metrics"].items():
        for name, figure in measured.items():
            title = metric if name == metric else f"{metric}.{name}"
            named[f"baseline/{title}"] = figure.get("baseline")
            named[f"result/{title}"] = figure["value"]
    return named


_RATIOS = ("latency", "size", "macs", "parameters")
_OF_EVERY_PASS = ("validation_top1", "validation_images", "parameters", "macs", "seconds")


def _named(name: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the names of common metrics, so that MLflow plots one curve; prefix others with the pass."""
    return {key if key in _OF_EVERY_PASS else f"{name}/{key}": value for key, value in metrics.items()}


def _log_result(entry: MlflowRun, run: Run, report: Mapping[str, Any], directory: Path) -> None:
    last = len(report["passes"])
    entry.log_metrics(report["loaded"], 0)
    runtimes = [next(iter(exported)) for exported in run.recipe["export"]]
    for position, comparison in enumerate((report, *report["other_runtimes"])):
        prefix = f"{runtimes[position]}/" if position else ""
        entry.log_metrics({f"{prefix}{name}": value for name, value in figures(comparison).items()}, last)
    missed = ", ".join(dict.fromkeys(gate["name"] for gate in report["budget"] if not gate["met"]))
    entry.client.set_tag(entry.id, "mbcompress.budget", f"missed: {missed}" if missed else "met")
    entry.client.set_tag(entry.id, "mbcompress.directory", str(directory.absolute()))
    for path in sorted(directory.iterdir()):
        if path.is_file():  # the weights after each pass are not uploaded
            entry.client.log_artifact(entry.id, str(path))


@contextmanager
def _mlflow() -> Iterator[Any]:
    """Import MLflow, and disable its info messages and telemetry within the block.

    Raises:
        MbcompressError: MLflow is not installed.
    """
    logger = logging.getLogger("mlflow")
    level, telemetry = logger.level, os.environ.get(DISABLE_TELEMETRY)
    os.environ.setdefault(DISABLE_TELEMETRY, "true")  # read when MLflow is imported
    logger.setLevel(logging.WARNING)  # info messages would break the progress bars
    try:
        import mlflow

        yield mlflow
    except ModuleNotFoundError as error:
        raise MbcompressError(
            f"{TRACKING_URI} is set, but {error.name} is not installed; "
            "run pip install 'mbcompress[mlflow]', or unset the variable"
        ) from None
    finally:
        logger.setLevel(level)
        if telemetry is None:
            os.environ.pop(DISABLE_TELEMETRY, None)


def _experiment(client: Any) -> str:
    """Return the ID of the experiment; create the experiment if it does not exist."""
    if chosen := os.environ.get(EXPERIMENT_ID):
        return chosen
    name = os.environ.get(EXPERIMENT_NAME) or "mbcompress"
    experiment = client.get_experiment_by_name(name)
    return str(experiment.experiment_id if experiment else client.create_experiment(name))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _key(name: str) -> str:
    """Replace characters that some MLflow stores reject."""
    return re.sub(r"[^\w\-. :/]", "_", name)[:LONGEST_KEY]
