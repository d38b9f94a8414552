"""The hooks of mbcompress. A plugin implements those it needs.

    import mbcompress

    @mbcompress.hookimpl
    def mbcompress_passes():
        return [MyPass]

The plugin's module is named by an entry point in the group `mbcompress`. Hooks in the plural return classes, never
instances. Those of a run's lifecycle return nothing: they are told, in the process and thread of the run, which waits
for them. An implementation takes the arguments it needs and leaves out the rest. If it raises, that is said with the
plugin's name, and the run goes on.
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
    """Passes that recipes can list under `passes:`."""


@hookspec
def mbcompress_models() -> list[type[ModelSource]]:  # type: ignore[empty-body]
    """Model sources that recipes can name under `model: {source: …}`."""


@hookspec
def mbcompress_datasets() -> list[type[Dataset]]:  # type: ignore[empty-body]
    """Datasets that recipes can name under `data: {name: …}`."""


@hookspec
def mbcompress_runtimes() -> list[type[Runtime]]:  # type: ignore[empty-body]
    """Runtimes that recipes can list under `export:`."""


@hookspec
def mbcompress_metrics() -> list[type[Metric]]:  # type: ignore[empty-body]
    """Metrics that recipes can list under `metrics:`."""


@hookspec
def mbcompress_operators() -> list[type[OperatorSet]]:  # type: ignore[empty-body]
    """Operators of torch's that models of this plugin's passes use, so that they can be stored and shipped."""


@hookspec
def mbcompress_run_started(run: Run) -> None:
    """A recipe has been found to be right, and its run begins; neither model nor data are loaded yet."""


@hookspec
def mbcompress_pass_finished(run: Run, index: int, name: str, metrics: Mapping[str, float], seconds: float) -> None:
    """A pass has ended, and its model has been evaluated.

    Args:
        run: as in all of these hooks.
        index: from 1, as in the name of the step's directory.
        name: the pass's.
        metrics: `validation_top1`, `validation_images`, `parameters`, `macs` and what the pass reports of itself.
        seconds: how long the pass took.
    """


@hookspec
def mbcompress_run_failed(run: Run, error: BaseException) -> None:
    """The run ends without a result, by an error or an interrupt; nothing of it is kept."""


@hookspec
def mbcompress_run_finished(run: Run, report: Mapping[str, Any], directory: Path) -> None:
    """The run has ended well.

    Args:
        run: as in all of these hooks.
        report: what report.json holds.
        directory: the run directory, complete and under its final name: its files may be read and copy_model.
    """
