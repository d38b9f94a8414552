"""One application of a pass to a small model; every part is computed once, on first use."""

from __future__ import annotations

import copy
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mbcompress.contract.apply import apply_pass
from mbcompress.contract.passes import traits_after
from mbcompress.contract.traits import INITIAL
from mbcompress.data.seed import fork_rng, seed_everything
from mbcompress.errors import MbcompressError
from mbcompress.testing.result import Skipped
from mbcompress.testing.tiny import SEED, SHAPE, probe, tiny_context, tiny_model
from mbcompress.testing.writes import watched

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from mbcompress.contract.passes import Pass
    from mbcompress.contract.runtimes import ConvolutionCount
    from mbcompress.contract.traits import Trait
    from mbcompress.registry.registry import Registry


class Trial:
    """A pass and the small model of `source`, prepared so that it has the traits that the pass requires."""

    def __init__(self, pass_: Pass, source: str, registry: Registry) -> None:
        self.pass_ = pass_
        self.source = source
        self.registry = registry
        self.images = probe()
        self.written: set[str] = set()

    @cached_property
    def traits(self) -> frozenset[Trait]:
        """The traits of the input model."""
        return self._prepared[1]

    @cached_property
    def original(self) -> nn.Module:
        """The model before the pass, unchanged."""
        return self._prepared[0]

    @cached_property
    def _prepared(self) -> tuple[nn.Module, frozenset[Trait]]:
        model, traits = tiny_model(self.source, self.registry), frozenset(INITIAL)
        while missing := self.pass_.requires - traits:
            model, traits = _with(sorted(missing)[0], model, traits, self.registry)
        return model, traits

    @cached_property
    def input(self) -> nn.Module:
        """The input model, after the pass."""
        return copy.deepcopy(self.original)

    @cached_property
    def output(self) -> nn.Module:
        """The model that the pass returned.

        Raises:
            Skipped: the pass rejects this model.
            PassError: the pass broke the contract.
        """
        return self._apply(self.input)

    @cached_property
    def repeated(self) -> nn.Module:
        """The output of a second run with the same seed."""
        return self._apply(copy.deepcopy(self.original))

    def _apply(self, model: nn.Module) -> nn.Module:
        context = tiny_context(tiny_model(self.source, self.registry))
        touched: set[str] = set()
        try:
            with fork_rng(()), watched() as touched:
                seed_everything(SEED)
                return apply_pass(self.pass_, model, context, "")
        except MbcompressError as error:
            raise Skipped(f"the pass rejects this model: {error}") from None
        finally:
            self.written |= touched

    @cached_property
    def exported(self) -> tuple[np.ndarray, ConvolutionCount]:
        """Logits of the exported file for the probe, (N, classes) float32, and its convolutions."""
        classes = self.registry.runtimes.classes
        able = [classes[name] for name in sorted(self.pass_.runs_in or {"onnx"}) if name in classes]
        cls = next((cls for cls in able if cls.examples), None)
        if cls is None:
            raise Skipped("no installed runtime can run its result")
        runtime = self.registry.runtimes.build(cls.name, cls.examples[0], self.registry)
        model = copy.deepcopy(self.output)
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / f"model{runtime.suffix}"
            runtime.export(model.eval(), SHAPE, path)
            return runtime.open(path, 1).run(self.images.numpy()), runtime.convolutions(path)

    def logits(self, model: nn.Module) -> Tensor:
        """Logits for the probe: (N, classes) float32."""
        with torch.no_grad():
            logits: Tensor = model(self.images)
        return logits


def _with(
    trait: Trait, model: nn.Module, traits: frozenset[Trait], registry: Registry
) -> tuple[nn.Module, frozenset[Trait]]:
    """Apply the first installed pass that provides `trait`."""
    for cls, _ in registry.passes:
        if trait in cls.provides and cls.requires <= traits and cls.examples:
            provider = registry.passes.build(cls.name, cls.examples[0], registry)
            return apply_pass(provider, model, tiny_context(model), ""), traits_after(traits, cls)
    raise Skipped(f"it requires the trait {str(trait)!r}, which no installed pass provides")
