"""Checks what a recipe's weights know: whether a teacher has learnt anything, and which images trained the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mbcompress.contract.models import ModelSource
from mbcompress.contract.teachers import teachers_in
from mbcompress.errors import SpecError, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mbcompress.contract.datasets import Dataset
    from mbcompress.contract.passes import Pass
    from mbcompress.data.splits import Splits

DIVIDES = (
    ("test", "equal", "test"),
    ("split_seed", "equal", "test or validation"),
    ("validation", "most", "validation"),
)
"""Options of a dataset that decide which images are not for training: how they must compare with those of a training
in the past, and what they would mix with its images. Of validation images the first in the same order are taken."""


def check_teachers(model: ModelSource | None, passes: Sequence[Pass], baseline_after: int) -> None:
    """Raise SpecError at a teacher that has random weights, or that does not fit the model's images and classes."""
    for index, step in enumerate(passes):
        for option, teacher in teachers_in(step):
            path = ("passes", index, step.name, *option)
            if isinstance(teacher, ModelSource):
                _check_source(path, teacher, model)
            elif model is not None and not model.pretrained and not 0 < baseline_after <= index:
                raise SpecError(
                    path,
                    "'baseline' is the model as it was loaded, which has random weights here; give the model "
                    "'weights', or train it first and set measure.baseline_after to 1, or choose another teacher",
                )


def _check_source(path: tuple[str | int, ...], teacher: ModelSource, model: ModelSource | None) -> None:
    if not teacher.pretrained:
        raise SpecError(path, "this teacher has random weights; give it 'weights'")
    if model is None:
        return
    for what, theirs, ours in (
        ("images of", "x".join(map(str, teacher.input_shape)), "x".join(map(str, model.input_shape))),
        ("a number of classes of", teacher.num_classes, model.num_classes),
    ):
        if theirs != ours:
            raise SpecError(path, f"this teacher has {what} {theirs}, the model {ours}; they must be the same")


def check_splits(model: ModelSource | None, passes: Sequence[Pass], dataset: Dataset | None) -> None:
    """Raise SpecError where test or validation images would be among those that any of the weights were trained on."""
    if dataset is not None:
        for weights, trained_on in _trainings(model, passes):
            _check_splits(weights, trained_on, dataset)


def other_images(
    model: ModelSource | None, passes: Sequence[Pass], dataset: Dataset | None, splits: Splits
) -> Iterator[str]:
    """A sentence for each of the weights that were trained on a division of other images, or of another order.

    Where options are those of that training; of fewer validation images nothing can be told.
    """
    if dataset is None:
        return
    options, found = dataset.as_written(), None
    for weights, trained_on in _trainings(model, passes):
        same = trained_on.get("name") == dataset.name and all(
            options.get(option) == trained_on.get(option) for option in ("validation", "calibration")
        )
        if same and "sha256" in trained_on:
            found = found or splits.fingerprint()
            if found != trained_on["sha256"]:
                yield (
                    f"data: these images, or their order, are not those of the training of {weights}; validation "
                    "images may be among those that trained them, and choices look better than they are"
                )


def _trainings(model: ModelSource | None, passes: Sequence[Pass]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What weights are called, and the data that trained them, where that is known."""
    sources = [("the model's weights", model)] if model is not None else []
    for step in passes:
        sources += [
            (f"the weights of the teacher in {step.name!r}", teacher)
            for _, teacher in teachers_in(step)
            if isinstance(teacher, ModelSource)
        ]
    for weights, source in sources:
        if source.trained_on is not None:
            yield weights, source.trained_on


def _check_splits(weights: str, trained_on: Mapping[str, Any], dataset: Dataset) -> None:
    if trained_on.get("name") != dataset.name:
        return
    options = dataset.as_written()
    for option, limit, kind in DIVIDES:
        if option not in options or option not in trained_on:
            continue
        ours, theirs = options[option], trained_on[option]
        if ours != theirs and (limit == "equal" or ours > theirs):
            raise SpecError(
                ("data", option),
                f"must be {'' if limit == 'equal' else 'at most '}{shown(theirs)} as when {weights} were trained, got "
                f"{shown(ours)}; otherwise {kind} images would be among those that trained them",
            )
