"""Targets of pruning: a share of the baseline's MACs, parameters, exported bytes or latency."""

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
    """The target; exactly one of these options is set."""

    target_macs: Share = Field(default=None, gt=0, lt=1, description="Largest share of the baseline's MACs.")
    target_parameters: Share = Field(
        default=None, gt=0, lt=1, description="Largest share of the baseline's parameters."
    )
    target_size: Share = Field(
        default=None,
        gt=0,
        lt=1,
        description="Largest share of the baseline's exported bytes; of the int8 file, if a later pass quantizes.",
    )
    target_latency: Share = Field(
        default=None,
        gt=0,
        lt=1,
        description="Largest share of the baseline's latency for one image, measured on the exported files in the "
        "recipe's first runtime, on one thread. If a later pass quantizes, the int8 file is measured beside the float "
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
        """Return name and value of the target.

        Raises:
            ValueError: there is none, or more than one.
        """
        given = {name: getattr(self, name) for name in Targets.model_fields if getattr(self, name) is not None}
        if len(given) != 1:
            names = ", ".join(repr(name) for name in Targets.model_fields)
            raise ValueError(f"needs one target of {names}; got {', '.join(given) or 'none'}")
        return next(iter(given.items()))


@dataclass(frozen=True)
class Target:
    """A target as a measurement.

    Attributes:
        name: of the option.
        limit: largest share of the baseline.
        share: measures a model, as a share of the baseline.
        exact: whether `share` counts, which is instant and repeatable; it measures files otherwise.
    """

    name: str
    limit: float
    share: Callable[[nn.Module], float]
    exact: bool


@contextmanager
def measured_target(targets: Targets, context: Context) -> Iterator[Target]:
    """Give the target that the options name; it can be measured while the block runs."""
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
