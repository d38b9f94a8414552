"""Pass: takes a model and returns a model."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from mbcompress.contract.options import Component
from mbcompress.contract.traits import Trait

if TYPE_CHECKING:
    from torch import nn

    from mbcompress.contract.context import Context


class Pass(Component):
    """A compression pass: takes a model and returns a model.

    `requires`, `provides` and `destroys` declare traits of the model. A recipe in which a pass lacks a required trait
    is rejected before anything is loaded.
    """

    requires: ClassVar[frozenset[Trait]] = frozenset({Trait.FLOAT})
    provides: ClassVar[frozenset[Trait]] = frozenset()
    destroys: ClassVar[frozenset[Trait]] = frozenset()

    consumes_input: ClassVar[bool] = False
    """Whether `apply` modifies its input model in place."""

    uses_runtimes: ClassVar[bool] = False
    """Whether `apply` depends on the recipe's runtimes; if not, `context.runtimes` is empty."""

    runs_in: ClassVar[frozenset[str] | None] = None
    """Names of the runtimes that support the result; None if all do. A recipe that exports to another runtime is
    rejected."""

    @property
    def looks_ahead(self) -> bool:
        """Whether `apply` depends on the passes that follow; if not, `context.later` is empty."""
        return False

    @abstractmethod
    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the compressed model; `model` must not change unless `consumes_input` is set.

        Args:
            model: (N, C, H, W) float images -> (N, num_classes) logits, in eval mode.
            context: data (never the test split), device, seed, teachers, progress.

        Raises:
            MbcompressError: the options cannot be applied to this model; the message says what is possible.
        """

    def preview(self, model: nn.Module, context: Context) -> nn.Module:
        """Return an untrained stand-in for the result of `apply`, with the same file size and latency.

        Earlier passes export and measure it, so it must take seconds at most. Implement it for passes that change the
        number format, such as quantization; the default returns `model`. `model` must not change.

        Raises:
            MbcompressError: the options cannot be applied to this model.
        """
        return model


def traits_after(traits: frozenset[Trait], pass_: Pass | type[Pass]) -> frozenset[Trait]:
    """Return the traits that a model with `traits` has after a pass."""
    return (traits - pass_.destroys) | pass_.provides
