"""One application of a pass to one small model, and what came out; each part is computed once, when it is asked for."""

from __future__ import annotations

import copy
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mbcompress.contract.apply import apply_pass
from mbcompress.contract.traits import INITIAL
from mbcompress.data.seed import fork_rng, seed_everything
from mbcompress.errors import MbcompressError
from mbcompress.testing.tiny import SEED, SHAPE, probe, tiny_context, tiny_model
from mbcompress.testing.verdict import Skipped
from mbcompress.testing.writes import watched

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from mbcompress.contract.passes import Pass
    from mbcompress.contract.runtimes import ConvolutionCount
    from mbcompress.contract.traits import Trait
    from mbcompress.registry.registry import Registry


class Trial:
    """`step` on the small model of `source`, prepared so that it has what the step requires."""

    def __init__(self, step: Pass, source: str, registry: Registry) -> None:
        self.step = step
        self.source = source
        self.registry = registry
        self.images = probe()
        self.written: set[str] = set()

    @cached_property
    def traits(self) -> frozenset[Trait]:
        """What the model has before the pass."""
        return self._prepared[1]

    @cached_property
    def before(self) -> nn.Module:
        """The model before the pass; nothing touches this one."""
        return self._prepared[0]

    @cached_property
    def _prepared(self) -> tuple[nn.Module, frozenset[Trait]]:
        model, traits = tiny_model(self.source, self.registry), frozenset(INITIAL)
        while missing := self.step.requires - traits:
            model, traits = _with(sorted(missing)[0], model, traits, self.registry)
        return model, traits

    @cached_property
    def given(self) -> nn.Module:
        """The model that the pass was given, as it is afterwards."""
        return copy.deepcopy(self.before)

    @cached_property
    def changed(self) -> nn.Module:
        """What the pass returned.

        Raises:
            Skipped: the pass says that it cannot do it to this model.
            PassError: it has broken the contract.
        """
        return self._apply(self.given)

    @cached_property
    def again(self) -> nn.Module:
        """What it returns under the same seed."""
        return self._apply(copy.deepcopy(self.before))

    def _apply(self, model: nn.Module) -> nn.Module:
        context = tiny_context(tiny_model(self.source, self.registry))
        touched: set[str] = set()
        try:
            with fork_rng(()), watched() as touched:
                seed_everything(SEED)
                return apply_pass(self.step, model, context, "")
        except MbcompressError as error:
            raise Skipped(f"the pass refuses this model: {error}") from None
        finally:
            self.written |= touched

    @cached_property
    def exported(self) -> tuple[np.ndarray, ConvolutionCount]:
        """Logits of the exported file on the probe, (N, classes) float32, and its convolutions."""
        classes = self.registry.runtimes.classes
        able = [classes[name] for name in sorted(self.step.runs_in or {"onnx"}) if name in classes]
        cls = next((cls for cls in able if cls.examples), None)
        if cls is None:
            raise Skipped("no runtime that it can be tried in")
        runtime = self.registry.runtimes.build(cls.name, cls.examples[0], self.registry)
        model = copy.deepcopy(self.changed)
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / f"model{runtime.suffix}"
            runtime.export(model.eval(), SHAPE, path)
            return runtime.open(path, 1).run(self.images.numpy()), runtime.convolutions(path)

    def logits(self, model: nn.Module) -> Tensor:
        """Of the probe's images: (N, classes) float32."""
        with torch.no_grad():
            found: Tensor = model(self.images)
        return found


def _with(
    trait: Trait, model: nn.Module, traits: frozenset[Trait], registry: Registry
) -> tuple[nn.Module, frozenset[Trait]]:
    """The model after the first installed pass that gives it `trait`."""
    for cls, _ in registry.passes:
        if trait in cls.provides and cls.requires <= traits and cls.examples:
            step = registry.passes.build(cls.name, cls.examples[0], registry)
            return apply_pass(step, model, tiny_context(model), ""), (traits - cls.destroys) | cls.provides
    raise Skipped(f"it requires a model that is {str(trait)!r}, and no installed pass provides that")
