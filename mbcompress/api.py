"""The Python API: run the pipeline on a model and data in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbcompress import recipe as recipes
from mbcompress.checkpoint.loading import load
from mbcompress.contract.datasets import Dataset
from mbcompress.contract.models import ModelSource
from mbcompress.contract.passes import Pass
from mbcompress.contract.progress import Progress
from mbcompress.data.loading import as_sources, load_sources
from mbcompress.data.splits import Splits
from mbcompress.errors import MbcompressError
from mbcompress.pipeline.launch import Result, launch
from mbcompress.registry.discovery import Registry, discover

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Result", "compress", "load"]

RecipeLike = str | Path | Mapping[str, Any] | Sequence[Pass]
Data = Splits | Dataset | Mapping[str, Any] | Iterable[Any]


def compress(
    model: nn.Module | ModelSource | None,
    recipe: RecipeLike,
    data: Data | None = None,
    *,
    input_shape: tuple[int, int, int] | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    cache: bool = True,
) -> Result:
    """Compress a model with a recipe and measure the exported files.

    Args:
        model: a module (N, C, H, W) float -> (N, num_classes) logits, which is copied and not modified; or a model
            source; None for the recipe's `model`.
        recipe: path of a YAML file, an equivalent dict, or a list of passes. A dict or list can contain objects instead
            of names; their classes need not be installed plugins, except for runtimes, which run in other processes.
        data: splits in memory, a dataset, or a dict like the recipe's `data`; or a dict with 'train' and any of
            'calibration', 'validation' and 'test', each an iterable of (images, labels), a torch Dataset or DataLoader
            or a Hugging Face image dataset, with `LoadingOptions`; or only one of these, used as 'train'. Missing
            splits are split off from 'train'. None for the recipe's `data`.
        input_shape: channels, height and width of the images; required for a module with a dataset.
        out: the run directory, new or empty; by default `runs/NAME-DATE-TIME`.
        device: device of the passes: 'auto', 'cpu', 'cuda' or 'mps'. Exported files are measured on the CPU.
        progress: shows the progress of the run; silent by default.
        cache: whether to reuse cached passes and cache the passes of this run. Repeating the call then resumes a killed
            run.

    In a program started by `torchrun` or `accelerate launch`, every process makes the same call. The processes train
    together, only the main process writes, and all return the result.

    Raises:
        MbcompressError: the recipe, the model or the data cannot be used.
    """
    registry = discover()
    progress = progress or Progress()
    plan, module, splits = _resolve(model, recipe, data, input_shape, registry, progress)
    return launch(plan, registry, out, device, nullcontext(progress), cache=cache, model=module, splits=splits)


def _resolve(
    model: nn.Module | ModelSource | None,
    recipe: RecipeLike,
    data: Data | None,
    input_shape: tuple[int, int, int] | None,
    registry: Registry,
    progress: Progress,
) -> tuple[recipes.Recipe, nn.Module | None, Splits | None]:
    """Return the plan, and the module and splits that replace its model and data."""
    from torch import nn

    document = _document(recipe)
    if isinstance(model, ModelSource):
        document.data["model"] = model
    module = model if isinstance(model, nn.Module) else None
    splits, parts = _split(data, document)
    provided = {"model": module, "data": splits or parts}
    for key, value in provided.items():
        if value is not None:
            document.data.pop(key, None)
    plan = recipes.resolve(document, registry, [key for key, value in provided.items() if value is not None])
    if module is not None and plan.data is not None:
        if input_shape is None:
            raise MbcompressError("input_shape: is required to load images for a module, for example (3, 32, 32)")
        splits = plan.data.load(input_shape, plan.data.split_seed)
    if parts is not None:
        shape = plan.model.input_shape if input_shape is None and plan.model else input_shape
        with progress.busy("read data"):
            splits = load_sources(parts, shape)
    return plan, module, splits


def _split(data: Data | None, document: recipes.Document) -> tuple[Splits | None, Any]:
    """Return splits and iterables in memory; put a dataset into the recipe."""
    if data is None:
        return None, None
    if isinstance(data, Splits):
        return data, None
    if isinstance(data, Dataset):
        document.data["data"] = data
        return None, None
    parts = as_sources(data)
    if isinstance(data, Mapping) and parts is None:
        document.data["data"] = dict(data)
    return None, parts


def _document(recipe: RecipeLike) -> recipes.Document:
    if isinstance(recipe, str | Path):
        return recipes.read(Path(recipe))
    if isinstance(recipe, Mapping):
        return recipes.from_mapping(recipe)
    return recipes.from_mapping({"passes": list(recipe)})
