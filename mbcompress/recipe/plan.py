"""A recipe that has been checked: components in place of names, every default filled in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveInt

from mbcompress.contract.options import Options

if TYPE_CHECKING:
    from mbcompress.contract.datasets import Dataset
    from mbcompress.contract.metrics import Metric
    from mbcompress.contract.models import ModelSource
    from mbcompress.contract.passes import Pass
    from mbcompress.contract.runtimes import Runtime
    from mbcompress.errors import Location


class Measure(Options):
    """How accuracy and latency of the exported files are measured."""

    rounds: int = Field(
        default=60, ge=5, le=10_000, description="Interleaved rounds of timing; each engine runs once in each round."
    )
    round_ms: float = Field(
        default=20.0, gt=0, le=10_000, description="How long an engine runs in one round, in milliseconds."
    )
    threads: tuple[PositiveInt, ...] | None = Field(
        default=None, min_length=1, description="Thread counts to time with; null is one thread, then all cores."
    )
    baseline_after: int = Field(
        default=0,
        ge=0,
        description="How many of the passes belong to the baseline: 0 compares with the model as loaded, 1 with what "
        "the first pass gave, for a recipe that begins with training.",
    )


class Budget(Options):
    """Limits on what compression may cost or must gain; a run that misses one exits with 3."""

    accuracy_drop: float | None = Field(
        default=None, ge=0, le=100, description="Largest loss of top-1 on the test split, in percentage points."
    )
    size_ratio: float | None = Field(default=None, gt=0, description="Least ratio of file sizes, baseline over result.")
    latency_ratio: float | None = Field(
        default=None,
        gt=0,
        description="Least ratio of latencies, baseline over result, with the fewest threads of measure.threads.",
    )
    int8_share: float | None = Field(
        default=None, ge=0, le=1, description="Least share of convolutions that the runtime executes on integers."
    )


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    `model` and `data` are None where a program hands over a module or splits of its own. `locations` says where each
    of the passes stands in the recipe.
    """

    name: str
    model: ModelSource | None
    data: Dataset | None
    passes: tuple[Pass, ...]
    export: tuple[Runtime, ...]
    metrics: tuple[Metric, ...]
    measure: Measure
    budget: Budget
    seed: int
    locations: tuple[Location, ...] = field(default=(), compare=False)

    def artifact(self, name: str, runtime: Runtime) -> str:
        """File name of a model for one of the runtimes; the first with a suffix has the plain one."""
        sharing = [other for other in self.export if other.suffix == runtime.suffix]
        return f"{name}{runtime.suffix}" if runtime is sharing[0] else f"{name}-{runtime.name}{runtime.suffix}"

    def to_mapping(self) -> dict[str, Any]:
        """The recipe that gives this plan again, with every default written out."""
        model = self.model and {"source": self.model.name, **self.model.as_written()}
        data = self.data and {"name": self.data.name, **self.data.as_written()}
        return {
            **({"model": model} if model else {}),
            **({"data": data} if data else {}),
            "passes": [{step.name: step.as_written()} for step in self.passes],
            "export": [{runtime.name: runtime.as_written()} for runtime in self.export],
            "metrics": [{metric.name: metric.as_written()} for metric in self.metrics],
            "measure": self.measure.as_written(),
            "budget": self.budget.as_written(),
            "seed": self.seed,
        }
