"""Execute the passes of a plan, taking results from the cache where possible.

Each pass receives the model as stored on disk, whether computed or cached, so that a resumed run has the same results
as an uninterrupted one. With several processes, all compute a pass, then load the files written by the main process.
"""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mbcompress.cache.fingerprints import data_fingerprint
from mbcompress.cache.keys import pass_key
from mbcompress.cache.store import ENTRY, Store
from mbcompress.checkpoint.loading import load
from mbcompress.checkpoint.operators import operator_sets
from mbcompress.checkpoint.pass_directory import METRICS, PASSES, open_pass
from mbcompress.checkpoint.saving import outputs_equal, save_pass
from mbcompress.contract.apply import apply_pass
from mbcompress.contract.checkpoints import Checkpoints
from mbcompress.contract.passes import Pass, traits_after
from mbcompress.contract.traits import INITIAL, Trait
from mbcompress.data.seed import seed_everything
from mbcompress.errors import Location, MbcompressError, RecipeError
from mbcompress.files import write_atomically
from mbcompress.graph import copy_model, count_macs, count_parameters, prepare_for_export
from mbcompress.pipeline.preflight import frozen_copy
from mbcompress.pipeline.processes import share_files
from mbcompress.training import evaluate
from mbcompress.training.distributed import equalize

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mbcompress.contract.context import Context
    from mbcompress.recipe.model import Recipe
    from mbcompress.registry.registry import Registry

Record = dict[str, Any]


@dataclass(frozen=True)
class SizedModel:
    """A model between passes, with its number of parameters and MACs."""

    model: nn.Module
    parameters: int
    macs: int


@dataclass(frozen=True)
class Work:
    """One pass to execute.

    Attributes:
        label: location of the pass in the recipe.
        directory: directory for its files.
        context: context of this pass.
        traits: traits of the resulting model.
        store: the cache; None if the result cannot be cached.
        key: cache key.
    """

    component: Pass
    label: str
    directory: Path
    context: Context
    traits: frozenset[Trait]
    store: Store | None
    key: str


class Executor:
    """Executes the passes of a plan in order.

    Args:
        plan: the resolved recipe.
        registry: the registry of the plan's components.
        directory: the run directory; each pass gets a subdirectory of `passes`.
        model: the loaded model, on the context's device.
        context: the context of the run; each pass gets its own metrics, seed and checkpoints.
        store: the cache; None to compute all passes. Only the main process has one.

    Attributes:
        current: the model after the last executed pass.
        loaded: the record of the model before all passes.
    """

    def __init__(
        self,
        plan: Recipe,
        registry: Registry,
        directory: Path,
        model: nn.Module,
        context: Context,
        store: Store | None,
    ) -> None:
        self.plan = plan
        self.registry = registry
        self.directory = directory / PASSES
        self.context = context
        self.store = store
        self.process_group = context.process_group
        self.current = self._sized(model)
        self.traits = INITIAL
        self.loaded = self._record("loaded", 0.0)
        # loading finds a source by name, so its class must be installed
        self._source = plan.model if plan.model and registry.models.origin_of(plan.model) else None
        self._operators = operator_sets(registry)
        self._template = copy_model(model).cpu()
        self._data = data_fingerprint(context.data) if store else ""

    def execute(self) -> Iterator[Record]:
        """Execute the passes; yield the record of each once `current` is its model."""
        for index in range(len(self.plan.passes)):
            work = self._work(index)
            record = self._execute(work)
            self.traits = work.traits
            yield record
        if not self.plan.passes and self.process_group.is_main_process:  # so that every run can be loaded
            self._save(self.directory / "00-loaded", self.loaded, self.current.model, INITIAL)

    def rebase(self) -> SizedModel:
        """Make the current model the baseline of the remaining passes and return a copy of it."""
        self.context = replace(self.context, baseline=frozen_copy(self.current.model))
        return replace(self.current, model=copy_model(self.context.baseline))

    def _work(self, index: int) -> Work:
        component = self.plan.passes[index]
        later = self.plan.passes[index + 1 :] if component.looks_ahead else ()
        context = replace(
            self.context,
            metrics={},
            files={},
            traits=self.traits,
            runtimes=self.context.runtimes if component.uses_runtimes else (),
            later=tuple(each for each in later if type(each).preview is not Pass.preview),
            seed=self.plan.seed + index + 1,
            pass_name=component.name,
        )
        origin = self.registry.passes.origin_of(component)
        location = self.plan.locations[index] if self.plan.locations else Location(self.plan.name)
        directory = self.directory / f"{index + 1:02}-{component.name}"
        traits = traits_after(self.traits, component)
        key = None
        if self.store:
            key = pass_key(component, self.current.model, context, origin, self._data, self.plan.model)
        store = self.store if key else None
        return Work(component, str(location), directory, context, traits, store, key or "")

    def _execute(self, work: Work) -> Record:
        name = work.component.name
        with work.store.claimed(work.key, name) if work.store else nullcontext():
            entry = work.store.find(work.key, name) if work.store else None
            if self.process_group.broadcast_object(lambda: entry is not None):
                return self._restore(work, entry)
            return self._compute(work)

    def _restore(self, work: Work, entry: Path | None) -> Record:
        """Restore a pass from the cache and return its record; only the main process has the entry."""
        if entry is not None:
            _copy_files(entry, work.directory)
        share_files(work.directory, self.process_group)
        self.current = self._sized(self._load(work.directory).to(self.context.device))
        return {**json.loads((work.directory / METRICS).read_text()), "cached": True}

    def _compute(self, work: Work) -> Record:
        checkpoints = work.store.checkpoints(work.key) if work.store else Checkpoints()
        context = replace(work.context, checkpoints=checkpoints)
        seed_everything(context.seed)
        changed = self._apply(work, context)
        seconds = context.checkpoints.seconds
        self.current = self._sized(changed)
        record = self._record(work.component.name, seconds, context)
        reloaded = None
        if self.process_group.is_main_process:
            self._save(work.directory, record, changed, work.traits)
            for name, text in context.files.items():
                write_atomically(work.directory / name, text)
            reloaded = self._reload(work, changed)
        if self.process_group.broadcast_object(lambda: reloaded is not None):
            share_files(work.directory, self.process_group)
            stored = self._load(work.directory) if reloaded is None else reloaded
            self.current = self._sized(stored.to(self.context.device))
            self._keep(work)
        else:
            equalize(changed, self.process_group)
        if work.store:
            work.store.delete_checkpoints(work.key)
        return {**record, "cached": False}

    def _apply(self, work: Work, context: Context) -> nn.Module:
        """Apply a pass and return its model.

        Raises:
            MbcompressError: the options cannot be applied to this model; the message starts with the recipe location.
            PassError: the pass violates its contract.
        """
        component = work.component
        origin = self.registry.passes.origin_of(component)
        label = f"{work.label}: pass {component.name!r}" + (f" ({origin})" if origin else "")
        try:
            return apply_pass(component, self.current.model, context, label)
        except MbcompressError as error:
            if not isinstance(error, RecipeError):
                error.args = (f"{work.label}: {error}", *error.args[1:])  # callers may catch subclasses
            raise

    def _record(self, name: str, seconds: float, context: Context | None = None) -> Record:
        """Return the record of the current model for the report; only the main process evaluates it."""
        record: Record = {"name": name, "seconds": seconds, "metrics": {}}
        if self.process_group.is_main_process:
            data = self.context.data
            score = evaluate(self.current.model, data.validation, data.normalization, self.context.device)
            record["metrics"] |= {"validation_top1": score.top1, "validation_images": score.count}
        record["metrics"] |= {"parameters": self.current.parameters, "macs": self.current.macs}
        if context:
            record["metrics"] |= context.metrics
            record |= {"files": sorted(context.files)} if context.files else {}
        return record

    def _save(self, directory: Path, record: Record, model: nn.Module, traits: frozenset[Trait]) -> None:
        save_pass(directory, record, model, self.context.input_shape, traits, self._source, self._operators)

    def _load(self, directory: Path) -> nn.Module:
        """Load the model of a pass, using the caller's module if its files are not sufficient."""
        architecture = open_pass(directory).architecture()
        alone = architecture.form == "source" or architecture.layers is None
        return load(directory, model=None if alone else self._template, registry=self.registry)

    def _reload(self, work: Work, model: nn.Module) -> nn.Module | None:
        """Load the stored model; return None if it is not equivalent to `model` for later passes."""
        plain = prepare_for_export(model)
        try:
            stored = self._load(work.directory)
        except MbcompressError:
            return None
        if Trait.FLOAT in work.traits and not _same_layers(stored, plain):
            return None
        return stored if outputs_equal(stored, plain, self.context.input_shape) else None

    def _keep(self, work: Work) -> None:
        if work.store and self._is_finite():
            work.store.keep(work.key, work.component.name, lambda entry: _copy_files(work.directory, entry))

    def _is_finite(self) -> bool:
        model = self.current.model
        tensors = [value for value in model.state_dict().values() if isinstance(value, torch.Tensor)]
        with torch.no_grad():
            tensors.append(model(self.context.example(2)))
        return all(bool(tensor.isfinite().all()) for tensor in tensors if tensor.is_floating_point())

    def _sized(self, model: nn.Module) -> SizedModel:
        return SizedModel(model, count_parameters(model), count_macs(model, self.context.example()))


def _same_layers(one: nn.Module, other: nn.Module) -> bool:
    """Whether two models have the same layers with the same settings and the same trainable parameters."""
    trained = [[name for name, p in model.named_parameters() if p.requires_grad] for model in (one, other)]
    return type(one) is type(other) and repr(one) == repr(other) and trained[0] == trained[1]


def _copy_files(source: Path, target: Path) -> None:
    """Copy the files of a pass, except the cache's own entry file."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.name != ENTRY:
            shutil.copyfile(path, target / path.name)
