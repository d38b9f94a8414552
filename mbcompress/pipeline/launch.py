"""Set up a run: the run directory, the processes, the device, the lifecycle hooks and the cache."""

from __future__ import annotations

import os
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mbcompress.cache.eviction import evict
from mbcompress.cache.settings import cache_limit, checkpoint_seconds
from mbcompress.cache.store import Store
from mbcompress.contract.events import Run
from mbcompress.contract.process_group import ProcessGroup
from mbcompress.errors import system_limits
from mbcompress.files import cache_folder
from mbcompress.pipeline.notifier import Notifier
from mbcompress.pipeline.processes import is_main, join, lacks_mpi, launched
from mbcompress.pipeline.run_directory import default_directory, provisional

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    import torch
    from torch import nn

    from mbcompress.contract.progress import Progress
    from mbcompress.data.splits import Splits
    from mbcompress.recipe import Recipe
    from mbcompress.registry.discovery import Registry

NEEDS_MPI = (
    "accelerate has started only one process: it needs MPI for several CPU processes with '--cpu'; use "
    "'--multi_gpu --num_processes N' instead, also on the CPU"
)


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        model: the compressed model in eval mode, (N, C, H, W) float32 -> (N, num_classes) logits.
        report: the content of report.json.
        path: the run directory.
    """

    model: nn.Module
    report: dict[str, Any]
    path: Path

    @property
    def artifacts(self) -> list[Path]:
        """The exported files of the compressed model; the first is the `result` of the report."""
        return [self.path / artifact["path"] for artifact in self.report["artifacts"] if artifact["role"] == "result"]

    @property
    def missed(self) -> list[dict[str, Any]]:
        """The limits of the recipe's budget that the run missed."""
        return [gate for gate in self.report["budget"] if not gate["met"]]


def launch(
    plan: Recipe,
    registry: Registry,
    out: str | Path | None,
    device: str,
    front: AbstractContextManager[Progress],
    *,
    cache: bool = True,
    model: nn.Module | None = None,
    splits: Splits | None = None,
) -> Result:
    """Claim the run directory, import torch and run the plan.

    Args:
        plan: the resolved recipe.
        registry: the registry of the plan's components.
        out: the run directory; None for `runs/NAME-DATE-TIME`.
        device: as in `mbcompress.compress`.
        front: context manager that provides the progress; entered once the directory is claimed.
        cache: as in `mbcompress.compress`.
        model: used instead of the plan's model source.
        splits: used instead of the plan's data.
    """
    main = is_main()
    directory = Path(out or "") if out is not None or not main else default_directory(plan.name)
    folder = cache_folder() if cache and main else None
    limit, interval = cache_limit(), checkpoint_seconds()
    with system_limits(), ExitStack() as claim:
        partial = claim.enter_context(provisional(directory) if main else _temporary_directory())
        with front as progress, _quiet():
            from mbcompress.data.seed import fork_rng
            from mbcompress.pipeline.environment import describe_environment
            from mbcompress.pipeline.preflight import Inputs
            from mbcompress.pipeline.run import run

            process_group, chosen = _processes(device, progress)
            inputs = Inputs(chosen, progress, model, splits, process_group)
            store = Store(folder, progress, interval) if folder else None
            environment = describe_environment(registry, str(chosen), plan.seed, process_group.world_size)
            listeners = registry.listeners if main else {}
            notifier = Notifier(listeners, Run(plan.name, plan.to_mapping(), environment), progress)
            with notifier.running(), fork_rng([chosen] if chosen.type == "cuda" else []):
                compressed, report = run(plan, registry, inputs, partial, notifier, store)
                claim.close()  # moves the files to the run directory
            notifier.finished(report, directory)
            if folder:
                evict(folder, limit)
            report, directory = process_group.broadcast_object(lambda: (report, directory))
    return Result(compressed, report, directory)


def _processes(device: str, progress: Progress) -> tuple[ProcessGroup, torch.device]:
    """Return the process group and the device of this process."""
    from mbcompress.training.device import choose

    if lacks_mpi():
        progress.say(NEEDS_MPI)
    if launched()[1] == 1:
        return ProcessGroup(), choose(device)
    group = join(device)
    return group, group.device


@contextmanager
def _quiet() -> Iterator[None]:
    """Import torch and silence its warnings and logs while the block runs; MBCOMPRESS_DEBUG=1 shows them."""
    if os.environ.get("MBCOMPRESS_DEBUG"):
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch  # noqa: F401  # imported first because it sets its log levels

        from mbcompress.graph.quiet import quiet_libraries

        with quiet_libraries():
            yield


@contextmanager
def _temporary_directory() -> Iterator[Path]:
    with TemporaryDirectory(prefix="mbcompress-") as name:
        yield Path(name)
