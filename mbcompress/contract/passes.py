"""Pass: takes a model, gives a model."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from mbcompress.contract.options import Component
from mbcompress.contract.traits import Trait

if TYPE_CHECKING:
    from torch import nn

    from mbcompress.contract.context import Context


class Pass(Component):
    """One step of a recipe: takes a model, gives a model.

    `requires`, `provides` and `destroys` say what the step needs of the model and what it does to it; a chain in which
    a step lacks what it requires is refused before anything is loaded.
    """

    requires: ClassVar[frozenset[Trait]] = frozenset({Trait.FLOAT})
    provides: ClassVar[frozenset[Trait]] = frozenset()
    destroys: ClassVar[frozenset[Trait]] = frozenset()

    consumes_input: ClassVar[bool] = False
    """Whether `apply` changes the model that it is given, so that nobody can use that one any more."""

    uses_runtimes: ClassVar[bool] = False
    """Whether what `apply` does depends on the runtimes that the result is for: `context.runtimes` is empty if not."""

    runs_in: ClassVar[frozenset[str] | None] = None
    """Names of the runtimes that can execute what `apply` gives; None where any can. A recipe that exports for another
    one is refused."""

    @property
    def looks_ahead(self) -> bool:
        """Whether what `apply` does depends on the passes that follow: `context.later` is empty if not."""
        return False

    @abstractmethod
    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the compressed model; `model` itself stays as it is unless `consumes_input` is set.

        Args:
            model: (N, C, H, W) float images -> (N, num_classes) logits, in eval mode.
            context: data (never the test split), device, seed, teachers, progress.

        Raises:
            MbcompressError: what the user asked for cannot be done to this model; say what would be possible.
        """

    def preview(self, model: nn.Module, context: Context) -> nn.Module:
        """A stand-in for what `apply` would make of `model`, whose exported file is as large and as fast.

        For passes before this one that measure files: without training, in seconds. It is for passes that hold the
        same network in other numbers, as int8 does; others leave it out. `model` stays as it is.

        Raises:
            MbcompressError: what the user asked for cannot be done to this model.
        """
        return model
