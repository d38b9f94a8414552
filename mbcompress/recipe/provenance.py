"""Checks what a recipe's weights know: whether a teacher has learnt anything, and which images trained the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbcompress.components import Dataset, ModelSource, Pass, teachers_in
from mbcompress.errors import SpecError, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

DIVIDES_TEST = ("test", "split_seed")
"""Options of a dataset that decide which images are test images."""


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


def check_test_split(model: ModelSource | None, dataset: Dataset | None) -> None:
    """Raise SpecError where test images would be among those that the weights were trained on."""
    if model is None or dataset is None or model.trained_on is None or model.trained_on.get("name") != dataset.name:
        return
    options = dataset.as_written()
    for option in DIVIDES_TEST:
        trained = model.trained_on.get(option)
        if option in options and options[option] != trained:
            raise SpecError(
                ("data", option),
                f"must be {shown(trained)} as when the model's weights were trained, got {shown(options[option])}; "
                "otherwise test images would be among those that trained it",
            )
