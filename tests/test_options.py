"""Options with nested groups: what a recipe does not set stays as the default of the field says."""

import pytest
from pydantic import ValidationError

from mbcompress import BaseTrainingConfig, DistillationConfig, Options, Pass, TrainingConfig, TrainingPass
from mbcompress.contract.training import trainings_in
from mbcompress.passes import Distill, Prune, Qat, Train


class Inner(Options):
    """Two numbers."""

    one: int = 1
    two: int = 2


class Middle(Options):
    """A group with a group."""

    inner: Inner = Inner(two=20)
    three: int = 3


class Outer(Options):
    """A group with other defaults than its class has."""

    middle: Middle = Middle(inner=Inner(one=100, two=200), three=300)
    absent: Inner | None = None


def test_a_mapping_changes_the_default_of_the_field_and_not_that_of_the_class() -> None:
    assert Outer.model_validate({"middle": {"three": 0}}).middle == Middle(inner=Inner(one=100, two=200), three=0)
    assert Outer.model_validate({"middle": {"inner": {"two": 0}}}).middle.inner == Inner(one=100, two=0)
    assert Outer.model_validate({"absent": {"one": 5}}).absent == Inner(one=5, two=2)
    assert Outer.model_validate({"middle": Middle()}).middle == Middle()
    with pytest.raises(ValidationError, match="four"):
        Outer.model_validate({"middle": {"four": 4}})


def test_groups_are_described_by_their_class() -> None:
    assert Outer.model_fields["middle"].description == "A group with a group."


def test_passes_keep_their_own_training_defaults() -> None:
    qat = Qat.model_validate({"training": {"epochs": 7}, "distillation": {"alpha": 1.0}})
    assert qat.training == BaseTrainingConfig(epochs=7, lr=0.002, clip_norm=1.0)
    assert qat.distillation == DistillationConfig(alpha=1.0, temperature=2.0)
    assert Qat.model_validate({"distillation": None}).distillation is None
    assert Train().training == TrainingConfig(epochs=20)


@pytest.mark.parametrize("option", ["precision", "resolutions"])
def test_options_that_qat_forbids_do_not_exist_in_it(option: str) -> None:
    assert option in TrainingConfig.model_fields
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Qat.model_validate({"training": {option: "fp32"}})


def test_trainings_are_found_wherever_a_pass_has_them() -> None:
    recovery = TrainingConfig(epochs=2)
    assert list(trainings_in(Prune(target_macs=0.5, recovery=recovery))) == [recovery]
    assert list(trainings_in(Prune(target_macs=0.5))) == []
    assert list(trainings_in(Distill())) == [TrainingConfig()]
    assert list(trainings_in(Train(training=TrainingConfig(epochs=0)))) == []


def test_a_pass_that_trains_needs_a_name_and_a_default() -> None:
    class Tune(TrainingPass):
        """Tune."""

        name = "tune"
        training: TrainingConfig = TrainingConfig(epochs=3)

        def apply(self, model: object, context: object) -> object:  # type: ignore[override]
            return model

    assert Tune().training.epochs == 3
    assert Tune.model_fields["training"].description
    assert Tune.consumes_input
    assert issubclass(Tune, Pass)
