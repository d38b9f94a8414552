"""Carries out the passes of a plan, each from the cache if it was done before.

What goes into the next pass is always the model as it was stored, whether it was computed just now or in another run,
so that a run that was killed and one that was not cannot differ. Where several processes carry out a run, main sends
the others the files of each step.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mbcompress.cache.checkpoints import Checkpoints
from mbcompress.cache.keys import data_fingerprint, step_key
from mbcompress.cache.store import ENTRY, Store
from mbcompress.checkpoint.restoring import load
from mbcompress.checkpoint.saving import same_answers, write_step
from mbcompress.checkpoint.stored import METRICS, open_step
from mbcompress.contract.passes import Pass
from mbcompress.contract.traits import INITIAL, Trait
from mbcompress.data.seed import seed_everything
from mbcompress.errors import MbcompressError
from mbcompress.files import write_atomically
from mbcompress.graph import copy_model, count_macs, count_parameters, prepare_for_export
from mbcompress.pipeline.apply import apply_pass
from mbcompress.training import evaluate
from mbcompress.training.distributed import equalize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mbcompress.contract.context import Context
    from mbcompress.recipe.model import Recipe
    from mbcompress.registry.registry import Registry

Record = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """A model between two passes, with its size."""

    model: nn.Module
    parameters: int
    macs: int


def stage_of(model: nn.Module, context: Context) -> Stage:
    """`model` with its size."""
    return Stage(model, count_parameters(model), count_macs(model, context.example()))


def metrics_of(stage: Stage, context: Context) -> Record:
    """What is reported of every stage: accuracy on the validation split, and the size."""
    score = evaluate(stage.model, context.data.validation, context.data.normalization, context.device)
    return {
        "validation_top1": score.top1,
        "validation_images": score.count,
        "parameters": stage.parameters,
        "macs": stage.macs,
    }


class Steps:
    """The passes of a plan, one after the other.

    Args:
        plan: whose passes they are.
        registry: where the plan's components came from.
        directory: of the run; each step gets a directory below `steps`.
        model: as it was loaded, on the context's device.
        context: of the run; each pass gets metrics, a seed and checkpoints of its own.
        store: where finished steps are kept; None to compute everything, and in processes other than main.
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
        self.directory = directory / "steps"
        self.context = context
        self.store = store
        self.stage = stage_of(model, context)
        self.traits = INITIAL
        self.process_group = context.process_group
        metrics = metrics_of(self.stage, context) if self.process_group.is_main_process else {}
        self.loaded: Record = {"name": "loaded", "seconds": 0.0, "metrics": metrics}
        # what is stored must be found again by name, which somebody's own class is not
        self._source = plan.model if plan.model and registry.models.origin_of(plan.model) else None
        self._skeleton = copy_model(model).cpu()
        self._data = data_fingerprint(context.data) if store else ""

    def carry_out(self) -> Iterator[Record]:
        """A record of each pass, when it is done; `stage` is then the model that it gave."""
        for index in range(len(self.plan.passes)):
            yield self._carry_out(index)
        if not self.plan.passes and self.process_group.is_main_process:  # the result of a run can always be read back
            self._write(self.directory / "00-loaded", self.loaded, self.stage.model)

    def rebase(self) -> Stage:
        """Make the model as it is now the baseline of the passes that follow, and give it."""
        baseline = replace(self.stage, model=frozen(self.stage.model))
        self.context = replace(self.context, baseline=baseline.model)
        return baseline

    def _carry_out(self, index: int) -> Record:
        step = self.plan.passes[index]
        place = self.directory / f"{index + 1:02}-{step.name}"
        context = replace(
            self.context,
            metrics={},
            files={},
            traits=self.traits,
            runtimes=self.context.runtimes if step.uses_runtimes else (),
            later=_with_preview(self.plan.passes[index + 1 :]) if step.looks_ahead else (),
            seed=self.plan.seed + index + 1,
            pass_name=step.name,
            checkpoints=Checkpoints(),
        )
        traits = (self.traits - step.destroys) | step.provides
        origin = self.registry.passes.origin_of(step)
        key = step_key(step, self.stage.model, context, origin, self._data, self.plan.model) if self.store else None
        if not self.process_group.is_main_process:
            record = self._follow(index, context, place)
        elif self.store is None or key is None:
            record, _ = self._compute(index, context, traits, place)
        else:
            with self.store.claimed(key, step.name):
                found = self.store.find(key, step.name)
                if found is None:
                    context = replace(context, checkpoints=self.store.checkpoints(key))
                    record, kept = self._compute(index, context, traits, place)
                    if kept and _is_finite(self.stage, context):
                        self.store.keep(key, step.name, lambda entry: _copy(place, entry))
                    self.store.forget_checkpoints(key)
                else:
                    record = self._take(found, place, context)
        self.traits = traits
        return record

    def _take(self, found: Path, place: Path, context: Context) -> Record:
        """The step as another run has left it."""
        self._main_says(computed_together=False)
        _copy(found, place)
        record: Record = json.loads((place / METRICS).read_text())
        self.stage = self._read(place, context)
        self._send(place)
        return {**record, "cached": True}

    def _read(self, place: Path, context: Context) -> Stage:
        return stage_of(load(place, model=self._skeleton_for(place)).to(context.device), context)

    def _follow(self, index: int, context: Context, place: Path) -> Record:
        """The same step in another process than main; its record is empty."""
        if self._main_says():
            seed_everything(context.seed)
            self.stage = stage_of(apply_pass(self.plan, index, self.stage.model, context, self.registry), context)
        if files := self._receive():
            place.mkdir(parents=True)
            for name, content in files.items():
                (place / name).write_bytes(content)
            self.stage = self._read(place, context)
        else:
            equalize(self.stage.model, self.process_group)
        return {}

    def _main_says(self, *, computed_together: bool = False) -> bool:
        """What main gives here, in every process."""
        return self.process_group.broadcast_object(lambda: computed_together)

    def _send(self, place: Path) -> None:
        """From main to the others: the files of a step, which is what the next pass goes on with."""
        self.process_group.broadcast_object(lambda: {path.name: path.read_bytes() for path in place.iterdir()})

    def _receive(self) -> dict[str, bytes]:
        return self.process_group.broadcast_object(dict[str, bytes])

    def _compute(self, index: int, context: Context, traits: frozenset[Trait], place: Path) -> tuple[Record, bool]:
        """The step's record, and whether its files give the model that the next pass goes on with."""
        self._main_says(computed_together=True)
        seed_everything(context.seed)
        changed = apply_pass(self.plan, index, self.stage.model, context, self.registry)
        seconds = context.checkpoints.seconds
        self.stage = stage_of(changed, context)
        metrics = {**metrics_of(self.stage, context), **context.metrics}
        record = {"name": self.plan.passes[index].name, "seconds": seconds, "metrics": metrics}
        if context.files:
            record["files"] = sorted(context.files)
        self._write(place, record, changed, traits)
        for name, text in context.files.items():
            write_atomically(place / name, text)
        if again := self._reopened(place, changed, context, traits):
            self.stage = stage_of(again, context)
            self._send(place)
        else:
            self._receive()  # as the others do, who learn that there are no files
            equalize(changed, self.process_group)
        return {**record, "cached": False}, again is not None

    def _write(self, place: Path, record: Record, model: nn.Module, traits: frozenset[Trait] = INITIAL) -> None:
        write_step(place, record, model, self.context.input_shape, traits, self._source)

    def _reopened(self, place: Path, model: nn.Module, context: Context, traits: frozenset[Trait]) -> nn.Module | None:
        """The model as its files give it, if later passes can do with that one all that they can do with `model`."""
        plain = prepare_for_export(model)
        try:
            again = load(place, model=self._skeleton_for(place))
        except MbcompressError:
            return None
        if Trait.FLOAT in traits and not _alike(again, plain):
            return None
        return again.to(context.device) if same_answers(again, plain, context.input_shape) else None

    def _skeleton_for(self, place: Path) -> nn.Module | None:
        """The caller's module, in whose class a float step of it comes back; None where files alone will do."""
        architecture = open_step(place).architecture()
        return None if architecture.form == "source" or architecture.layers is None else self._skeleton


def frozen(model: nn.Module) -> nn.Module:
    """A copy in eval mode, without gradients."""
    return copy_model(model).eval().requires_grad_(False)


def _with_preview(passes: Sequence[Pass]) -> tuple[Pass, ...]:
    return tuple(each for each in passes if type(each).preview is not Pass.preview)


def _alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether two models have the same layers with the same settings, and learn the same parameters."""
    learned = [[name for name, each in model.named_parameters() if each.requires_grad] for model in (one, other)]
    return type(one) is type(other) and repr(one) == repr(other) and learned[0] == learned[1]


def _is_finite(stage: Stage, context: Context) -> bool:
    tensors = [value for value in stage.model.state_dict().values() if isinstance(value, torch.Tensor)]
    with torch.no_grad():
        tensors.append(stage.model(context.example(2)))
    return all(bool(tensor.isfinite().all()) for tensor in tensors if tensor.is_floating_point())


def _copy(source: Path, target: Path) -> None:
    """The files of a step, without what the cache adds to them."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.name != ENTRY:
            shutil.copyfile(path, target / path.name)
