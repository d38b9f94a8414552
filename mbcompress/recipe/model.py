"""The pydantic model of recipes: every key with its type, default, bounds and description.

Used for resolution, checks, the JSON Schema and the reference docs. A resolved `Recipe` is the plan of a run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    BeforeValidator,
    FailFast,
    Field,
    PlainSerializer,
    PositiveInt,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from mbcompress.contract.datasets import Dataset
from mbcompress.contract.metrics import Metric
from mbcompress.contract.models import ModelSource
from mbcompress.contract.options import Component, Options
from mbcompress.contract.passes import Pass
from mbcompress.contract.runtimes import Runtime
from mbcompress.contract.validation import problems
from mbcompress.errors import Location, RecipeError, SpecError, shown
from mbcompress.recipe.checks import check

if TYPE_CHECKING:
    from mbcompress.recipe.document import Document
    from mbcompress.registry.registry import Registry

MAX_SEED = 2**32 - 1
KINDS = {"model": "models", "data": "datasets", "passes": "passes", "export": "runtimes", "metrics": "metrics"}
"""Recipe keys that name components -> attribute of the registry."""


def _build(value: object, info: ValidationInfo) -> object:
    """Build the component that a value specifies; None if the caller provides it."""
    assert info.context is not None
    key = info.field_name or ""
    if value is None and key in info.context["provided"]:
        return None
    registry = info.context["registry"]
    return getattr(registry, KINDS[key]).resolve(value, registry)


def _write_entry(component: Component) -> dict[str, Any]:
    return {component.name: component.as_written()}


def _write_model(model: ModelSource | None) -> dict[str, Any] | None:
    return {"source": model.name, **model.as_written()} if model else None


def _write_data(data: Dataset | None) -> dict[str, Any] | None:
    return {"name": data.name, **data.as_written()} if data else None


def _mapping_or_null(value: object) -> object:
    if value is not None and not isinstance(value, Mapping):
        raise SpecError((), f"must be a mapping like {{option: value}}, got {shown(value)}")
    return dict(value or {})


class Measure(Options):
    """How accuracy and latency of the exported files are measured."""

    rounds: int = Field(
        default=60, ge=5, le=10_000, description="Number of interleaved timing rounds; each engine runs once per round."
    )
    round_ms: float = Field(
        default=20.0, gt=0, le=10_000, description="Duration of one engine's run in a round, in milliseconds."
    )
    threads: tuple[PositiveInt, ...] | None = Field(
        default=None, min_length=1, description="Thread counts to measure with; null for one thread and all cores."
    )
    baseline_after: int = Field(
        default=0,
        ge=0,
        description="Number of passes that belong to the baseline: 0 compares to the loaded model, 1 to "
        "the result of the first pass, for a recipe that starts with training.",
    )


class Budget(Options):
    """Limits that the result must meet; a run that misses one exits with code 3."""

    accuracy_drop: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Maximum drop of top-1 accuracy on the test split, in percentage points.",
    )
    size_ratio: float | None = Field(default=None, gt=0, description="Minimum ratio of file sizes, baseline / result.")
    latency_ratio: float | None = Field(
        default=None,
        gt=0,
        description="Minimum ratio of latencies, baseline / result, at the smallest thread count of measure.threads.",
    )
    int8_share: float | None = Field(
        default=None, ge=0, le=1, description="Minimum fraction of convolutions that the runtime executes in int8."
    )


BUILD = BeforeValidator(_build)
ENTRY = PlainSerializer(_write_entry)


class Recipe(Options):
    """A resolved recipe, with built components and all defaults.

    `model` and `data` are None if the caller provides a module or splits.
    """

    model: Annotated[
        ModelSource | None, BeforeValidator(_build, json_schema_input_type=ModelSource), PlainSerializer(_write_model)
    ] = Field(description="The model to compress: `source` and its options.")
    data: Annotated[
        Dataset | None, BeforeValidator(_build, json_schema_input_type=Dataset), PlainSerializer(_write_data)
    ] = Field(description="Labeled images: `name` and its options.")
    passes: Annotated[tuple[Annotated[Pass, BUILD, ENTRY], ...], FailFast()] = Field(
        description="The passes to apply, in this order."
    )
    export: Annotated[tuple[Annotated[Runtime, BUILD, ENTRY], ...], FailFast()] = Field(
        default=("onnx",),
        validate_default=True,
        description="Runtimes to export the result to and measure it in.",
        json_schema_extra={"minItems": 1, "uniqueItems": True},
    )
    metrics: Annotated[tuple[Annotated[Metric, BUILD, ENTRY], ...], FailFast()] = Field(
        default=(),
        description="Metrics to compute on the outputs of the exported files, in addition to accuracy.",
        json_schema_extra={"uniqueItems": True},
    )
    measure: Annotated[Measure, BeforeValidator(_mapping_or_null, json_schema_input_type=Measure | None)] = Field(
        default_factory=Measure, description="How accuracy and latency of the exported files are measured."
    )
    budget: Annotated[Budget, BeforeValidator(_mapping_or_null, json_schema_input_type=Budget | None)] = Field(
        default_factory=Budget, description="Limits that the result must meet; a run that misses one exits with code 3."
    )
    seed: int = Field(
        default=0,
        strict=True,
        ge=0,
        le=MAX_SEED,
        description="Seed for the order of batches and all random choices of the passes; splits "
        "depend on the dataset's 'split_seed' instead.",
    )

    _name: str = PrivateAttr(default="recipe")
    _locations: tuple[Location, ...] = PrivateAttr(default=())

    @field_validator("seed", mode="wrap")
    @classmethod
    def _is_a_seed(cls, value: object, handler: ValidatorFunctionWrapHandler) -> int:
        try:
            seed: int = handler(value)
        except ValidationError:
            raise ValueError(f"must be a whole number from 0 to {MAX_SEED}, got {shown(value)}") from None
        return seed

    @property
    def name(self) -> str:
        """Name of the run: the stem of the recipe's file."""
        return self._name

    @property
    def locations(self) -> tuple[Location, ...]:
        """Location of each pass in the recipe."""
        return self._locations

    def artifact(self, stem: str, runtime: Runtime) -> str:
        """Return the file name for a runtime; with equal suffixes, all but the first add the runtime's name."""
        first = next(other for other in self.export if other.suffix == runtime.suffix)
        return f"{stem}{runtime.suffix}" if runtime is first else f"{stem}-{runtime.name}{runtime.suffix}"

    def to_mapping(self) -> dict[str, Any]:
        """Return the recipe as plain data with all defaults; resolving it returns an equal recipe."""
        return {key: value for key, value in self.as_written().items() if value is not None}

    def __eq__(self, other: object) -> bool:
        """Compare name and values, but not locations."""
        return isinstance(other, Recipe) and self.name == other.name and dict(self) == dict(other)


def resolve(document: Document, registry: Registry, provided: Collection[str] = ()) -> Recipe:
    """Build and check the recipe of a document.

    Args:
        document: the recipe as data.
        registry: the components that recipes can name.
        provided: 'model' and/or 'data' if the caller provides them; the recipe can then omit them.

    Raises:
        RecipeError: the first error in the document.
    """
    context = {"registry": registry, "provided": provided}
    try:
        recipe = Recipe.model_validate({**dict.fromkeys(provided), **document.data}, context=context)
        check(recipe, registry)
    except ValidationError as error:
        raise _first(problems(error, Recipe, "key"), document) from None
    except SpecError as error:
        raise RecipeError(document.locate(error.path, at_key=error.at_key), str(error)) from None
    recipe._name = document.name
    recipe._locations = tuple(
        document.locate(("passes", index, pass_.name), at_key=True) for index, pass_ in enumerate(recipe.passes)
    )
    return recipe


def _first(errors: list[SpecError], document: Document) -> RecipeError:
    """Return the error with the first location; missing keys come last."""
    located = [(document.locate(error.path, at_key=error.at_key), str(error)) for error in errors if error.path]
    if located:
        return RecipeError(*min(located, key=lambda mistake: (mistake[0].line or 0, mistake[0].column or 0)))
    return RecipeError(document.locate(()), f"{errors[0]}; a recipe needs 'model', 'data' and 'passes'")
