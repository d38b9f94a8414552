"""The hooks of mbcompress. A plugin implements the ones it needs.

    import mbcompress

    @mbcompress.hookimpl
    def mbcompress_passes():
        return [MyPass]

An entry point in the group `mbcompress` names the plugin's module. Hooks in the plural return classes, never instances.
The others are lifecycle hooks and return nothing. They are called synchronously, in the process and thread of the run.
An implementation declares only the arguments it uses. If it raises, the run reports the error with the plugin's name
and continues.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pluggy

from mbcompress.contract.datasets import Dataset
from mbcompress.contract.events import Run
from mbcompress.contract.metrics import Metric
from mbcompress.contract.models import ModelSource
from mbcompress.contract.operators import OperatorSet
from mbcompress.contract.passes import Pass
from mbcompress.contract.runtimes import Runtime

hookspec = pluggy.HookspecMarker("mbcompress")
hookimpl = pluggy.HookimplMarker("mbcompress")


@hookspec
def mbcompress_passes() -> list[type[Pass]]:  # type: ignore[empty-body]
    """Return the passes that recipes can list under `passes:`."""


@hookspec
def mbcompress_models() -> list[type[ModelSource]]:  # type: ignore[empty-body]
    """Return the model sources that recipes can name under `model: {source: …}`."""


@hookspec
def mbcompress_datasets() -> list[type[Dataset]]:  # type: ignore[empty-body]
    """Return the datasets that recipes can name under `data: {name: …}`."""


@hookspec
def mbcompress_runtimes() -> list[type[Runtime]]:  # type: ignore[empty-body]
    """Return the runtimes that recipes can list under `export:`."""


@hookspec
def mbcompress_metrics() -> list[type[Metric]]:  # type: ignore[empty-body]
    """Return the metrics that recipes can list under `metrics:`."""


@hookspec
def mbcompress_operators() -> list[type[OperatorSet]]:  # type: ignore[empty-body]
    """Return the custom torch operators used by models of this plugin's passes, so that they can be saved."""


@hookspec
def mbcompress_run_started(run: Run) -> None:
    """Called when a run starts: the recipe is valid; model and data are not loaded yet."""


@hookspec
def mbcompress_pass_finished(run: Run, index: int, name: str, metrics: Mapping[str, float], seconds: float) -> None:
    """Called when a pass has finished and its model has been evaluated.

    Args:
        run: the run; the same object in all lifecycle hooks.
        index: 1-based position of the pass, as in the name of its directory.
        name: name of the pass.
        metrics: `validation_top1`, `validation_images`, `parameters`, `macs` and the pass's own metrics.
        seconds: duration of the pass.
    """


@hookspec
def mbcompress_run_failed(run: Run, error: BaseException) -> None:
    """Called when the run ends with an error or an interrupt; its files are removed."""


@hookspec
def mbcompress_run_finished(run: Run, report: Mapping[str, Any], directory: Path) -> None:
    """Called when the run has finished successfully.

    Args:
        run: the run; the same object in all lifecycle hooks.
        report: the content of report.json.
        directory: the complete run directory under its final name; files can be read and copied.
    """
