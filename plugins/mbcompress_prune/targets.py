"""What a pruned model is measured by: operations, parameters, the exported file's size, or its speed."""

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
    """How far to go; a pass needs exactly one of them."""

    target_macs: Share = Field(
        default=None, gt=0, lt=1, description="Share of the baseline's multiply-accumulates that may be left."
    )
    target_parameters: Share = Field(
        default=None, gt=0, lt=1, description="Share of the baseline's parameters that may be left."
    )
    target_size: Share = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of the baseline's bytes that the exported file may have; of the int8 file, if a later pass "
        "makes it int8.",
    )
    target_latency: Share = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of the baseline's time for one image that may be left, measured on the exported files of "
        "the recipe's first runtime, on one thread. A network that a later pass will make int8 is measured in int8, "
        "beside the baseline as it is.",
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        self.chosen()
        return self

    @property
    def measured(self) -> bool:
        """Whether exported files decide, and so what later passes make of them."""
        return self.target_size is not None or self.target_latency is not None

    def chosen(self) -> tuple[str, float]:
        """Name and value of the one target.

        Raises:
            ValueError: there is none, or more than one.
        """
        given = {name: getattr(self, name) for name in Targets.model_fields if getattr(self, name) is not None}
        if len(given) != 1:
            names = ", ".join(repr(name) for name in Targets.model_fields)
            raise ValueError(f"needs one target of {names}; got {', '.join(given) or 'none'}")
        return next(iter(given.items()))


@dataclass(frozen=True)
class Goal:
    """A target of a run.

    Attributes:
        name: of the option.
        limit: share of the baseline that may be left.
        share: measures a model, as a share of the baseline.
        exact: whether `share` gives the same for the same model, at once; not of times and files.
    """

    name: str
    limit: float
    share: Callable[[nn.Module], float]
    exact: bool


@contextmanager
def goal_of(targets: Targets, context: Context) -> Iterator[Goal]:
    """The goal that the options name, to be measured while the block runs."""
    from mbcompress.graph.count import count_macs, count_parameters
    from mbcompress.measure import ExportBenchmark

    name, limit = targets.chosen()
    if targets.measured:
        with ExportBenchmark(context) as benchmark:
            yield Goal(name, limit, benchmark.size if name == "target_size" else benchmark.latency, exact=False)
        return
    example = context.example()

    def count(model: nn.Module) -> int:
        return count_parameters(model) if name == "target_parameters" else count_macs(model, example)

    whole = count(context.baseline)
    yield Goal(name, limit, lambda model: count(model) / whole, exact=True)
