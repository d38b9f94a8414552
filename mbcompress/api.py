"""mbcompress as a library: the same pipeline for somebody who holds a model and data in their hands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mbcompress import recipe as recipes
from mbcompress.cache.checkpoints import checkpoint_seconds
from mbcompress.cache.place import cache_folder, cache_limit
from mbcompress.cache.store import Store
from mbcompress.cache.upkeep import evict
from mbcompress.contract.datasets import Dataset
from mbcompress.contract.events import Run
from mbcompress.contract.models import ModelSource
from mbcompress.contract.passes import Pass
from mbcompress.contract.process_group import ProcessGroup
from mbcompress.contract.progress import Progress
from mbcompress.data.loading import as_sources, load_sources
from mbcompress.data.splits import Splits
from mbcompress.errors import MbcompressError, system_limits
from mbcompress.pipeline.events import Notifier
from mbcompress.pipeline.launcher import join, launched, left_alone
from mbcompress.pipeline.result import Result
from mbcompress.pipeline.run_directory import default_directory, provisional
from mbcompress.registry.discovery import Registry, discover

if TYPE_CHECKING:
    from torch import nn


Recipe = str | Path | Mapping[str, Any] | Sequence[Pass]


def compress(
    model: nn.Module | ModelSource | None,
    recipe: Recipe,
    data: Splits | Dataset | Mapping[str, Any] | Iterable[Any] | None = None,
    *,
    input_shape: tuple[int, int, int] | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    cache: bool = True,
) -> Result:
    """Apply a recipe to a model and measure what comes out.

    Args:
        model: a module (N, C, H, W) float -> (N, num_classes) logits, which is copied and stays as it is; or a model
            source; None takes the recipe's own `model`.
        recipe: path of a YAML file, the same as a dict, or a list of passes. Where a name stands in a dict or a list,
            an object may stand too; its class need not be installed, but for runtimes, which other processes must find.
        data: splits in memory, a dataset, or a dict like the recipe's `data`; or a dict with 'train' and any of
            'calibration', 'validation' and 'test', each an iterable of (images, labels), a torch Dataset or DataLoader
            or a Hugging Face image dataset, beside `LoadingOptions`; or one of these alone, as 'train'. What is
            missing is split off from 'train'. None takes the recipe's own.
        input_shape: channels, height and width to load images at, where a module comes with a dataset to be read.
        out: the run directory, new or empty; by default `runs/NAME-DATE-TIME`.
        device: 'auto', 'cpu', 'cuda' or 'mps', for the passes; files are measured on the CPU.
        progress: told what goes on; silent by default.
        cache: whether steps that were computed before are taken from the cache, and those of this run kept there. A run
            that was killed then goes on where it was when the same call is made again.

    A program that `torchrun` or `accelerate launch` has started in several processes makes the same call in each. They
    train together; main alone writes, and all get the result.

    Raises:
        MbcompressError: the recipe, the model or the data are not usable; the message says what would be.
    """
    from torch import nn

    registry = discover()
    document = _document(recipe)
    if isinstance(model, ModelSource):
        document.data["model"] = model
    if isinstance(data, Dataset):
        document.data["data"] = data
    parts = None if data is None or isinstance(data, Splits | Dataset) else as_sources(data)
    if isinstance(data, Mapping) and parts is None:
        document.data["data"] = dict(data)
    module = model if isinstance(model, nn.Module) else None
    splits = data if isinstance(data, Splits) else None
    given = {"model": module, "data": splits or parts}
    for key, value in given.items():
        if value is not None:
            document.data.pop(key, None)
    plan = recipes.resolve(document, registry, [key for key, value in given.items() if value is not None])
    if module is not None and plan.data is not None:
        if input_shape is None:
            raise MbcompressError("input_shape: is needed to load images for a module, for example (3, 32, 32)")
        splits = plan.data.load(input_shape, plan.data.split_seed)
    progress = progress or Progress()
    if parts is not None:
        shape = plan.model.input_shape if input_shape is None and plan.model else input_shape
        with progress.busy("read data"):
            splits = load_sources(parts, shape)
    return run_plan(plan, registry, out, device, nullcontext(progress), cache=cache, model=module, splits=splits)


def run_plan(
    plan: recipes.Recipe,
    registry: Registry,
    out: str | Path | None,
    device: str,
    front: AbstractContextManager[Progress],
    *,
    cache: bool = True,
    model: nn.Module | None = None,
    splits: Splits | None = None,
) -> Result:
    """Claim the run directory, then import torch, and run.

    Args:
        plan: what to do.
        registry: where the plan's components came from.
        out: the run directory; None for `runs/NAME-DATE-TIME`.
        device: as in `compress`.
        front: entered once the directory is claimed; gives the progress to report to.
        cache: as in `compress`.
        model: in place of the plan's source.
        splits: in place of the plan's data.
    """
    index, count = launched()
    main = index == 0
    directory = Path(out or "") if out is not None or not main else default_directory(plan.name)
    folder = cache_folder() if cache and main else None
    limit, interval = cache_limit(), checkpoint_seconds()
    with system_limits(), ExitStack() as claim:
        partial = claim.enter_context(provisional(directory) if main else _scratch())
        with front as progress:
            from mbcompress.data.seed import fork_rng
            from mbcompress.pipeline.environment import describe_environment
            from mbcompress.pipeline.run import run
            from mbcompress.training.device import choose

            if left_alone():
                progress.say(
                    "accelerate has started one process only: without MPI, '--cpu' starts no more; "
                    "'--multi_gpu' starts as many as it is told, on the CPU too"
                )
            group = join(device) if count > 1 else None
            process_group = group or ProcessGroup()
            chosen = group.device if group else choose(device)
            environment = describe_environment(registry, str(chosen), plan.seed, count)
            store = Store(folder, progress, interval) if folder else None
            listeners = registry.listeners if main else {}
            notifier = Notifier(listeners, Run(plan.name, plan.to_mapping(), environment), progress)
            devices = [chosen] if chosen.type == "cuda" else []
            # the caller's random numbers go on as if nothing had been drawn
            with notifier.running(), fork_rng(devices):
                compressed, report = run(
                    plan,
                    registry,
                    partial,
                    device=chosen,
                    progress=progress,
                    notifier=notifier,
                    store=store,
                    model=model,
                    splits=splits,
                    process_group=process_group,
                )
                claim.close()  # the run directory takes its name
            notifier.finished(report, directory)
            if folder:
                evict(folder, limit)
            report, directory = process_group.broadcast_object(lambda: (report, directory))
    return Result(compressed, report, directory)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A directory that goes away."""
    with TemporaryDirectory(prefix="mbcompress-") as name:
        yield Path(name)


def _document(recipe: Recipe) -> recipes.Document:
    if isinstance(recipe, str | Path):
        return recipes.read(Path(recipe))
    if isinstance(recipe, Mapping):
        return recipes.from_mapping(recipe)
    return recipes.from_mapping({"passes": list(recipe)})
