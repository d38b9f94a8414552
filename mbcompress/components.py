"""The contract between mbcompress and plugins: what a pass, a model source, a dataset and a runtime are.

A component *is* its options: a frozen pydantic model whose fields are what a recipe may set, and whose few verbs do the
work. Nothing here imports torch, and a plugin's module should not either: import it inside the verbs, so that
`--help`, `passes` and `validate` answer at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationInfo, field_validator

from mbcompress.errors import SpecError, shown
from mbcompress.traits import Trait

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import nn

    from mbcompress.context import Context
    from mbcompress.data import Splits


class Options(BaseModel):
    """Settings with a name, a type, a default and a description each; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool):
            annotation = cls.model_fields[info.field_name or ""].annotation
            kinds = set(get_args(annotation)) or {annotation}
            if bool not in kinds and kinds & {int, float}:
                raise ValueError(f"must be a number, got {shown(value)}")
        return value


class Component(Options):
    """Something a recipe can name. Subclasses set `name` and declare their options as pydantic fields."""

    name: ClassVar[str]

    @classmethod
    def summary(cls) -> str:
        """First line of the class's docstring, for listings."""
        return (cls.__doc__ or "").strip().partition("\n")[0]


class Pass(Component):
    """One step of a recipe: takes a model, gives a model.

    `requires`, `provides` and `destroys` say what the step needs of the model and what it does to it; a chain in which
    a step lacks what it requires is refused before anything is loaded.
    """

    requires: ClassVar[frozenset[Trait]] = frozenset({Trait.FLOAT})
    provides: ClassVar[frozenset[Trait]] = frozenset()
    destroys: ClassVar[frozenset[Trait]] = frozenset()

    @abstractmethod
    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the compressed model; `model` may be changed in place, the caller uses only what is returned.

        Args:
            model: (N, C, H, W) float images -> (N, num_classes) logits, in eval mode.
            context: data (never the test split), device, seed, teachers, progress.

        Raises:
            MbcompressError: what the user asked for cannot be done to this model; say what would be possible.
        """


class ModelSource(Component):
    """Where a model comes from."""

    num_classes: int = Field(ge=2, le=100_000, description="Number of classes, the width of the last layer.")

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input image."""

    @abstractmethod
    def load(self) -> nn.Module:
        """Build the float model with its weights, on the CPU.

        Raises:
            MbcompressError: the weights are missing, damaged, or of another architecture.
        """


class Dataset(Component):
    """Labelled images, divided into four disjoint splits."""

    calibration: int = Field(
        default=128, ge=1, description="Images set aside to observe activation ranges for quantization."
    )
    validation: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the training images that choices are made on."
    )

    @abstractmethod
    def load(self, input_shape: tuple[int, int, int], seed: int) -> Splits:
        """Read the images at the size the model wants; the division depends on `seed` alone.

        Raises:
            MbcompressError: the data is missing, unreadable or too small to be divided.
        """


class ConvolutionCount(NamedTuple):
    """How many convolutions an engine executes, and how many of them on integers."""

    total: int
    int8: int


class Session(ABC):
    """An artifact that is open in a runtime."""

    @abstractmethod
    def run(self, images: np.ndarray) -> np.ndarray:
        """(N, C, H, W) float32 -> (N, num_classes) float32 logits."""


class Runtime(Component):
    """A format that models are shipped in, and the engine that executes it.

    `open` and `convolutions` must not import torch: they run in a process that holds nothing but the engine, which is
    the process that latency and memory are measured in.
    """

    suffix: ClassVar[str]
    """File name extension of the artifact, with the dot."""

    @abstractmethod
    def export(self, model: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
        """Write `model`, in eval mode on the CPU, to `path` as one file."""

    @abstractmethod
    def open(self, path: Path, threads: int) -> Session:
        """Load the artifact with a fixed number of compute threads."""

    @abstractmethod
    def convolutions(self, path: Path) -> ConvolutionCount:
        """Count the convolutions of the graph as the engine has optimized it."""

    @abstractmethod
    def describe(self) -> str:
        """Engine and version, as a report should name it: 'ONNX Runtime 1.31.1 (CPU)'."""


def _resolve_source(value: object, info: ValidationInfo) -> object:
    if isinstance(value, ModelSource) or value == "baseline":
        return value
    field = info.field_name or ""
    if not isinstance(value, Mapping):
        raise SpecError((field,), f"must be 'baseline' or a model like {{source: …, weights: …}}, got {shown(value)}")
    if not info.context:
        raise SpecError((field,), "a model must be given as a ModelSource object here")
    try:
        return info.context["catalogue"].build_model(value)
    except SpecError as error:
        raise error.under(field) from None


def _dump_source(value: ModelSource | str) -> object:
    return value if isinstance(value, str) else {"source": value.name, **value.model_dump(mode="json")}


Teacher = Annotated[
    Literal["baseline"] | ModelSource, BeforeValidator(_resolve_source), PlainSerializer(_dump_source, return_type=Any)
]
"""Type of an option that names a teacher: `baseline`, the model as it was loaded, or `{source: …}` like `model:`."""
