"""Unknown options: the new name of an old one, the same name inside a nested group; the order of listings."""

import json
from typing import Any

import pytest
from plugin_packages import Install
from pydantic import Field, ValidationError

from mbcompress.cli import main
from mbcompress.contract.datasets import Dataset
from mbcompress.contract.options import Options
from mbcompress.contract.passes import Pass
from mbcompress.contract.validation import RENAMED, first_problem, listed_fields


class Schedule(Options):
    """A nested group."""

    epochs: int = Field(default=8, description="Epochs.")
    bn_momentum: float = Field(default=0.1, description="Momentum.")


class Cycle(Options):
    """A group with a group."""

    schedule: Schedule = Field(default=Schedule(), description="How it goes.")


class Base(Pass):
    """A pass with a nested group."""

    training: Schedule = Field(default=Schedule(), description="How it trains.")

    def apply(self, model: Any, context: Any) -> Any:
        return model


class Clip(Base):
    """A pass with options of its own."""

    name = "clip"
    limit: float = Field(default=1.0, gt=0, description="Limit.")
    cycle: Cycle = Field(default=Cycle(), description="A cycle.")
    grad_accum_steps: int = Field(default=1, description="Parts.")


def problem(**options: Any) -> str:
    with pytest.raises(ValidationError) as failure:
        Clip(**options)
    return str(first_problem(failure.value, Clip))


KNOWN = "(known: cycle, grad_accum_steps, limit, training)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limti": 1}, f"limti: unknown option 'limti'; did you mean 'limit'? {KNOWN}"),
        ({"accumulation": 2}, f"accumulation: unknown option 'accumulation'; it is now 'grad_accum_steps' {KNOWN}"),
        (
            {"epochs": 3},
            f"epochs: unknown option 'epochs'; did you mean 'training.epochs' or 'cycle.schedule.epochs'? {KNOWN}",
        ),
        (
            {"norm_momentum": 0.1},
            "norm_momentum: unknown option 'norm_momentum'; it is now 'training.bn_momentum' or "
            f"'cycle.schedule.bn_momentum' {KNOWN}",
        ),
        (
            {"training": {"norm_momentum": 0.1}},
            "training.norm_momentum: unknown option 'norm_momentum'; it is now 'bn_momentum' "
            "(known: bn_momentum, epochs)",
        ),
        ({"cycle": {"epochs": 1}}, "cycle.epochs: unknown option 'epochs'; did you mean 'schedule.epochs'? (known: schedule)"),
        ({"magnitude": 9}, f"magnitude: unknown option 'magnitude' {KNOWN}"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_unknown_options(options: dict[str, Any], message: str) -> None:
    assert problem(**options) == message


def test_new_names_are_not_old_ones() -> None:
    assert not set(RENAMED) & set(RENAMED.values())


def test_listings_begin_with_own_options() -> None:
    assert list(listed_fields(Clip)) == ["limit", "grad_accum_steps", "training", "cycle"]

    class Folder(Dataset):
        """A dataset with options of its own."""

        path: str = Field(description="Folder.")
        validation: float = Field(default=0.2, description="Another default.")

    assert list(listed_fields(Folder))[:2] == ["validation", "path"]
    assert list(listed_fields(Folder))[2:] == ["calibration", "split_seed"]


PLUGIN = '''
class Group(mbcompress.Options):
    """A group."""
    epochs: int = Field(default=8, gt=0, description="Epochs.")

class Clip(mbcompress.Pass):
    """Clip weights."""
    name = "clip"
    training: Group = Field(default=Group(epochs=3), description="How it trains.")
    limit: float = Field(default=1.0, gt=0, description="Limit.")
    def apply(self, model, context):
        return model

@mbcompress.hookimpl
def mbcompress_passes():
    return [Clip]
'''


def test_groups_are_listed_with_their_own_lines(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    """With the defaults that the pass sets."""
    install("mb-clip", PLUGIN, plugin="clip")
    assert main(["passes", "clip"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "pass clip  (mb-clip 1.2)",
        "    Clip weights.",
        "    limit: float = 1.0  [> 0]",
        "        Limit.",
        "    training: options",
        "        How it trains.",
        "        epochs: int = 3  [> 0]",
        "            Epochs.",
        "",
    ]
    assert main(["passes", "clip", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert [option["name"] for option in entry["options"]] == ["limit", "training"]
    assert entry["options"][1]["default"] == {"epochs": 3}
    (inner,) = entry["options"][1]["options"]
    assert (inner["name"], inner["default"]) == ("epochs", 3)
