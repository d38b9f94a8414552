"""The contract between mbcompress and plugins: what a pass, a model source, a dataset, a runtime and a metric are.

A component *is* its options: a frozen pydantic model whose fields are what a recipe may set, and whose few verbs do the
work. Nothing here imports torch, and a plugin's module should not either: import it inside the verbs, so that
`--help`, `passes` and `validate` answer at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationInfo, field_validator

from mbcompress.errors import SpecError, shown
from mbcompress.traits import Trait
from mbcompress.zoo import Zoo

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from mbcompress.context import Context
    from mbcompress.data import Splits
    from mbcompress.progress import Progress


class Options(BaseModel):
    """Settings with a name, a type, a default and a description each; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    def as_written(self) -> dict[str, Any]:
        """The options as a recipe would hold them; an object that YAML cannot hold is described."""
        return self.model_dump(mode="json", fallback=shown)

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

    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)
    """Options to try the component with. `({},)`, the defaults alone, will do unless some option has no default that
    could be right for everybody; `()` says that it cannot be tried without something of the user's, such as a file."""

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


class ModelSource(Component):
    """Where a model comes from."""

    rebuildable: ClassVar[bool] = False
    """Whether the architecture follows from the options alone (an option `weights` aside), and building it reads no
    files and runs no code that an option names. Models of such sources are stored as options and channel counts; those
    of all others as graphs. `load` must also work under `torch.device("meta")`."""

    zoo: ClassVar[Zoo | None] = None
    """Weights that come with the source, which `mbcompress info zoo:NAME` describes."""

    num_classes: int = Field(ge=2, le=100_000, description="Number of classes, the width of the last layer.")

    @property
    def pretrained(self) -> bool:
        """Whether `load` gives trained weights, from which others can learn, and not random ones."""
        return True

    @property
    def trained_on(self) -> Mapping[str, Any] | None:
        """Name and options of the dataset that the weights come from, where that is known."""
        return None

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
    split_seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        description="Which image is in which split. The recipe's own seed does not move it, so that a network trained "
        "in one run is never tested on its training images in another, as long as the images are the same.",
    )

    @abstractmethod
    def load(self, input_shape: tuple[int, int, int], seed: int) -> Splits:
        """Read the images at the size the model wants; the division depends on `seed`, the option `split_seed`.

        Raises:
            MbcompressError: the data is missing, unreadable or too small to be divided.
        """


class ConvolutionCount(NamedTuple):
    """How many convolutions an engine executes, and how many of them on integers."""

    total: int
    int8: int


class WeightCount(NamedTuple):
    """How many weights of convolutions and matrix products a file holds, and how many of them are zero."""

    total: int
    zero: int


class Session(ABC):
    """An artifact that is open in a runtime."""

    @abstractmethod
    def run(self, images: np.ndarray) -> np.ndarray:
        """(N, C, H, W) float32 -> (N, num_classes) float32 logits."""


class Runtime(Component):
    """A format that models are shipped in, and the engine that executes it.

    `open`, `convolutions` and `zero_weights` run in a process that holds nothing but the engine, which is the process
    that latency and memory are measured in. So they must not import torch, unless the engine itself `needs_torch`.
    """

    suffix: ClassVar[str]
    """File name extension of the artifact, with the dot."""

    channel_multiple: ClassVar[int] = 8
    """The engine's kernels are fastest where channel counts are multiples of this."""

    needs_torch: ClassVar[bool] = False
    """Whether the engine cannot be had without torch in its process, whose memory is then measured with it.
    `describe` must import it then, so that its memory is not taken for the model's."""

    def prepare(self, progress: Progress) -> None:  # nothing to get, for most
        """Get whatever `export` needs and is not here yet; called once, before anything is computed.

        Raises:
            MbcompressError: it cannot be had.
        """

    @abstractmethod
    def export(self, model: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
        """Write `model`, in eval mode on the CPU, to `path` as one file."""

    @abstractmethod
    def open(self, path: Path, threads: int) -> Session:
        """Load the artifact with a fixed number of compute threads."""

    @abstractmethod
    def convolutions(self, path: Path) -> ConvolutionCount:
        """Count the convolutions of the graph as the engine has optimized it."""

    def zero_weights(self, path: Path) -> WeightCount | None:
        """Count the weights of convolutions and matrix products as the file holds them; None where that is unknown.

        A quantized weight is zero where it equals its zero point.
        """
        return None

    @abstractmethod
    def describe(self) -> str:
        """Engine and version, as a report should name it: 'ONNX Runtime 1.31.1 (CPU)'."""


class OperatorSet(ABC):
    """Operators of torch that a plugin brings, so that models which use them can be stored, read back and shipped.

    Their code is the plugin's, installed by the user: a stored graph may name them, and brings no code itself. Nothing
    here may import torch but `register`.
    """

    name: ClassVar[str]
    """The namespace, as in `torch.ops.NAME`."""

    operators: ClassVar[frozenset[str]]
    """With their overloads: 'mbcompress.depthwise3x3.default'. They must be functions of tensors and numbers that
    neither read files nor run code that an argument names."""

    @abstractmethod
    def register(self) -> None:
        """Make the operators known to torch; a second call does nothing."""

    @property
    def library(self) -> Path | None:
        """The shared library that registers them by itself, which a file for other programs can carry."""
        return None

    @property
    def status(self) -> str:
        """How they are computed here, or why only slowly, for `mbcompress doctor`."""
        return "in Python"


class Predictions(NamedTuple):
    """What both exported files answered to the same test images, in the same order.

    Attributes:
        labels: (N,) int64, from 0.
        baseline: (N, num_classes) float32 logits of the baseline's file.
        result: (N, num_classes) float32 logits of the result's file; a broken model's may be NaN or infinite.
    """

    labels: NDArray[np.int64]
    baseline: NDArray[np.float32]
    result: NDArray[np.float32]


class Measured(NamedTuple):
    """A figure for the report.

    Attributes:
        value: of the result; NaN or infinity is reported as undefined.
        unit: what it is counted in, as a report writes it: '%', 'nats', '' for a bare number.
        better: whether a report should mark a rise or a fall as worse; None where neither is.
        baseline: the same figure of the baseline; None where a figure compares the two.
    """

    value: float
    unit: str = ""
    better: Literal["higher", "lower"] | None = None
    baseline: float | None = None


class Metric(Component):
    """Something to measure on what the exported files answer, beside accuracy."""

    @abstractmethod
    def measure(self, predictions: Predictions) -> dict[str, Measured]:
        """Figures by name, the same names whatever the predictions; called once for each runtime of the recipe.

        It is also called before the passes, on random logits, so that a metric that fails does so at once.
        """


def _resolve_source(value: object, info: ValidationInfo) -> object:
    if isinstance(value, ModelSource) or value == "baseline":
        return value
    if not isinstance(value, Mapping):
        raise SpecError((), f"must be 'baseline' or a model like {{source: …, weights: …}}, got {shown(value)}")
    if not info.context:
        raise SpecError((), "a model must be given as a ModelSource object here")
    return info.context["catalogue"].build_model(value)


def _resolve_sources(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, list | tuple) or not value:
        return _resolve_source(value, info)
    sources = []
    for index, each in enumerate(value):
        try:
            sources.append(_resolve_source(each, info))
        except SpecError as error:
            raise error.under(index) from None
    return tuple(sources)


def _dump_source(value: ModelSource | str) -> object:
    return value if isinstance(value, str) else {"source": value.name, **value.as_written()}


def _dump_sources(value: ModelSource | str | tuple[ModelSource | str, ...]) -> object:
    return [_dump_source(each) for each in value] if isinstance(value, tuple) else _dump_source(value)


Teacher = Annotated[
    Literal["baseline"] | ModelSource, BeforeValidator(_resolve_source), PlainSerializer(_dump_source, return_type=Any)
]
"""Type of an option that names a teacher: `baseline`, the model as it was loaded, or `{source: …}` like `model:`."""

Teachers = Annotated[
    Literal["baseline"] | ModelSource | tuple[Literal["baseline"] | ModelSource, ...],
    BeforeValidator(_resolve_sources),
    PlainSerializer(_dump_sources, return_type=Any),
]
"""Type of an option that names a teacher or a list of them, an ensemble."""


def teachers_in(options: Options) -> Iterator[tuple[tuple[str | int, ...], ModelSource | str]]:
    """Every teacher that the options name, however deep, with the path to it."""
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        if isinstance(value, ModelSource) or (value == "baseline" and ModelSource in _alternatives(field.annotation)):
            yield (name,), value
        elif isinstance(value, tuple) and ModelSource in _alternatives(field.annotation):
            yield from (((name, index), each) for index, each in enumerate(value))
        elif isinstance(value, Options):
            yield from (((name, *path), teacher) for path, teacher in teachers_in(value))


def _alternatives(annotation: Any) -> set[Any]:
    """The types in a union, however deep."""
    return {annotation}.union(*(_alternatives(argument) for argument in get_args(annotation)))
