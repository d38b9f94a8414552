"""Pruning targets: a ratio of the baseline's MACs, parameters, exported size or latency."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from mbcompress import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from mbcompress import Context

Share = float | None


class Targets(Options):
    """The target; exactly one of these options must be set."""

    target_macs: Share = Field(default=None, gt=0, lt=1, description="Largest ratio to the baseline's MACs.")
    target_parameters: Share = Field(
        default=None, gt=0, lt=1, description="Largest ratio to the baseline's number of parameters."
    )
    target_size: Share = Field(
        default=None,
        gt=0,
        lt=1,
        description="Largest ratio to the baseline's file size; the int8 file counts if a later pass quantizes.",
    )
    target_latency: Share = Field(
        default=None,
        gt=0,
        lt=1,
        description="Largest ratio to the baseline's latency with one image on one thread, measured on the exported "
        "files in the recipe's first runtime. If a later pass quantizes, the int8 file is compared with the float "
        "baseline.",
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        self.chosen()
        return self

    @property
    def measured(self) -> bool:
        """Whether the target is measured on exported files, which later passes change."""
        return self.target_size is not None or self.target_latency is not None

    def chosen(self) -> tuple[str, float]:
        """Return the name and value of the target.

        Raises:
            ValueError: no target is set, or more than one.
        """
        given = {name: getattr(self, name) for name in Targets.model_fields if getattr(self, name) is not None}
        if len(given) != 1:
            names = ", ".join(repr(name) for name in Targets.model_fields)
            raise ValueError(f"needs exactly one of {names}; got {', '.join(given) or 'none'}")
        return next(iter(given.items()))


@dataclass(frozen=True)
class Target:
    """A target with the function that measures it.

    Attributes:
        name: name of the option.
        limit: largest ratio to the baseline.
        share: returns the ratio of a model to the baseline.
        exact: whether `share` is fast and deterministic because it counts; otherwise it measures exported files.
    """

    name: str
    limit: float
    share: Callable[[nn.Module], float]
    exact: bool


@contextmanager
def measured_target(targets: Targets, context: Context) -> Iterator[Target]:
    """Context manager for the target that the options set; `share` works only inside the block."""
    from mbcompress.graph import count_macs, count_parameters
    from mbcompress.measure import ExportBenchmark

    name, limit = targets.chosen()
    if targets.measured:
        with ExportBenchmark(context) as benchmark:
            yield Target(name, limit, benchmark.size if name == "target_size" else benchmark.latency, exact=False)
        return
    example = context.example()

    def count(model: nn.Module) -> int:
        return count_parameters(model) if name == "target_parameters" else count_macs(model, example)

    whole = count(context.baseline)
    yield Target(name, limit, lambda model: count(model) / whole, exact=True)
