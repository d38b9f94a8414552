"""Passes that break the contract, each in one way: the kit finds it and says what to change."""

import copy
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from mbcompress import ConvolutionCount, MbcompressError, Pass, Trait
from mbcompress.registry.discovery import Registry
from mbcompress.testing import Verdict, check_component
from mbcompress.testing.passes import check_exportable, check_traits
from mbcompress.testing.traits import MEANING
from mbcompress.testing.trial import Trial
from mbcompress.testing.writes import watched

SMALL = "mobilenet_v1"


def failed(verdicts: list[Verdict]) -> dict[str, tuple[str, ...]]:
    return {verdict.check: verdict.problems for verdict in verdicts if not verdict.passed}


@pytest.fixture
def without_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting takes seconds, and is not what these tests are about."""
    monkeypatch.setattr("mbcompress.testing.passes.check_exportable", lambda trial: ())
    monkeypatch.setattr("mbcompress.testing.passes.check_traits", lambda trial: ())


def test_numbers_that_numpy_draws_are_the_same_under_one_seed(registry: Registry) -> None:
    def jitter(model: nn.Module, context: Any) -> nn.Module:
        for parameter in model.parameters():
            parameter.data *= 1 + 0.01 * np.random.rand()
        return model

    before = np.random.get_state()[1]
    trial = Trial(bad(jitter)(), SMALL, registry)
    pairs = zip(trial.changed.parameters(), trial.again.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert np.array_equal(np.random.get_state()[1], before)


class Bad(Pass):
    """Does as it is told."""

    name: ClassVar[str] = "bad"
    do: ClassVar[Callable[[nn.Module, Any], object]]

    def apply(self, model: nn.Module, context: Any) -> nn.Module:
        return type(self).do(model, context)  # type: ignore[return-value]


def bad(do: Callable[[nn.Module, Any], object], **declares: Any) -> type[Pass]:
    return type("Bad", (Bad,), {"__doc__": "Bad.", "do": staticmethod(do), "__module__": __name__, **declares})


def raises(model: nn.Module, context: Any) -> nn.Module:
    raise ValueError("no luck")


def fills(value: float) -> Callable[[nn.Module, Any], nn.Module]:
    def fill(model: nn.Module, context: Any) -> nn.Module:
        for parameter in model.parameters():
            parameter.data.fill_(value)
        return model

    return fill


def writes_to_home(model: nn.Module, context: Any) -> nn.Module:
    (Path.home() / "squeeze.log").write_text("hello")
    return model


def writes_compiled(model: nn.Module, context: Any) -> nn.Module:
    torch.save({}, "squeeze.pt")  # by C++, unseen by Python
    return model


def writes_to_temporary(model: nn.Module, context: Any) -> nn.Module:
    Path(tempfile.mkdtemp(), "x").write_text("hello")
    Path("/dev/null").write_text("hello")
    return model


def makes_and_removes(model: nn.Module, context: Any) -> nn.Module:
    Path("scratch").mkdir()
    Path("scratch").rmdir()
    return model


def trains(model: nn.Module, context: Any) -> nn.Module:
    return copy.deepcopy(model.train()).eval()


def hooks(model: nn.Module, context: Any) -> nn.Module:
    twin = copy.deepcopy(model)
    model.register_forward_hook(lambda module, inputs, output: output + 1)
    return twin


def draws(model: nn.Module, context: Any) -> nn.Module:
    model = copy.deepcopy(model)
    next(model.parameters()).data.mul_(float(np.random.default_rng().random()))
    return model


@pytest.mark.parametrize(
    ("do", "check", "problem"),
    [
        (raises, "applies", "raised ValueError: no luck (test_conformance_passes.py, line "),
        (lambda model, context: None, "applies", "returned None; it must return an nn.Module"),
        (lambda model, context: nn.Sequential(model, nn.Linear(10, 3)), "applies", "returned a model whose output "),
        (fills(float("nan")), "applies", "returns a model whose logits are NaN or infinite; limit the step"),
        (fills(0.5), "input", "changes 'features.0.weight' of the model that it is given; copy.deepcopy(model) first"),
        (trains, "input", "leaves the model that it is given in training mode; copy.deepcopy(model) first"),
        (hooks, "input", "changes what the model that it is given answers; copy.deepcopy(model) first"),
        (draws, "deterministic", "gives another 'features.0.weight' when it is repeated with the same seed; draw from"),
        (writes_to_home, "writes nothing", "touches /"),
        (writes_compiled, "writes nothing", "touches /"),
        (makes_and_removes, "writes nothing", "touches /"),
    ],
)
@pytest.mark.usefixtures("without_export")
def test_passes_that_fail(
    do: Callable[[nn.Module, Any], object],
    check: str,
    problem: str,
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    problems = failed(check_component(bad(do), registry, architectures=[SMALL]))
    assert list(problems) == [check]
    assert list(tmp_path.iterdir()) == []  # what it writes while it is checked goes away with the check
    assert problems[check][0].replace("features.0.0.weight", "features.0.weight").startswith(problem)


@pytest.mark.parametrize(
    ("do", "declares"),
    [(writes_to_temporary, {}), (fills(0.5), {"consumes_input": True})],
    ids=["temporary", "consumes"],
)
@pytest.mark.usefixtures("without_export")
def test_passes_that_may(do: Callable[[nn.Module, Any], object], declares: dict[str, Any], registry: Registry) -> None:
    assert failed(check_component(bad(do, **declares), registry, architectures=[SMALL])) == {}


class Branches(nn.Module):
    """Decides by a value, which an export cannot."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(images)
        return logits if logits.sum() > 0 else -logits


class Guesses(nn.Module):
    """Answers otherwise each time."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images) + 100 * random.random()  # type: ignore[no-any-return]


class Frozen(nn.Module):
    """No gradient reaches its weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.model(images)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("wrapper", "problem"),
    [
        (Branches, "returns a model that cannot be exported to ONNX: "),
        (Guesses, "the exported file's logits differ by up to "),
    ],
)
def test_models_that_cannot_be_exported(wrapper: type[nn.Module], problem: str, registry: Registry) -> None:
    small = nn.Sequential(nn.Conv2d(3, 10, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())  # exported at once
    trial = Trial(bad(lambda model, context: wrapper(small))(), SMALL, registry)
    (found,) = check_exportable(trial)
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("do", "declares", "problem"),
    [
        (
            lambda model, context: Frozen(model),
            {},
            "the model lacks Trait.FLOAT (floating-point weights that can be copied and trained), which it was given "
            "and does not destroy; add it to destroys, or keep it",
        ),
        (
            lambda model, context: model,
            {"provides": frozenset({Trait.INT8})},
            "the model lacks Trait.INT8 (convolutions that ONNX Runtime executes on integers), which it declares to "
            "provide; add it to destroys, or keep it",
        ),
        (
            lambda model, context: model,
            {"destroys": frozenset({Trait.FLOAT})},
            "the model has Trait.FLOAT (floating-point weights that can be copied and trained), which it declares to "
            "destroy; provides and destroys must say what happens",
        ),
    ],
    ids=["loses float", "is not int8", "still is float"],
)
def test_traits_that_are_not_so(
    do: Callable[[nn.Module, Any], object], declares: dict[str, Any], problem: str, registry: Registry
) -> None:
    trial = Trial(bad(do, **declares)(), SMALL, registry)
    trial.exported = (np.zeros(0), ConvolutionCount(27, 0))  # what export would find, without its seconds
    assert list(check_traits(trial)) == [problem]


def test_a_trait_that_is_not_declared(registry: Registry) -> None:
    qat = registry.passes.classes["qat"]
    silent = type("Silent", (qat,), {"__doc__": "S.", "__module__": __name__, "provides": frozenset()})
    verdicts = check_component(silent, registry, [{"training": {"epochs": 0}}], architectures=[SMALL])
    assert failed(verdicts)["traits"][0].startswith("the model has Trait.INT8 (convolutions that ONNX Runtime executes")


@pytest.mark.parametrize(
    ("share", "provides", "problem"),
    [
        (0.5, {Trait.SPARSE}, []),
        (0.5, set(), []),  # nobody has to keep zeros
        (
            0.0,
            {Trait.SPARSE},
            [
                "the model lacks Trait.SPARSE (a weight of which at least 1 % is zero), which it declares to provide; "
                "add it to destroys, or keep it"
            ],
        ),
    ],
)
def test_zeros_that_are_declared_are_there(
    share: float, provides: set[Trait], problem: list[str], registry: Registry
) -> None:
    def blank(model: nn.Module, context: Any) -> nn.Module:
        model = copy.deepcopy(model)
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.data.flatten()[: int(share * layer.weight.numel())] = 0
        return model

    trial = Trial(bad(blank, provides=frozenset(provides))(), SMALL, registry)
    trial.exported = (np.zeros(0), ConvolutionCount(27, 0))
    assert list(check_traits(trial)) == problem


def test_every_trait_can_be_looked_at() -> None:
    assert set(MEANING) == set(Trait)


@pytest.mark.usefixtures("without_export")
def test_a_pass_may_refuse_some_models_but_not_all(registry: Registry) -> None:
    def refuse(model: nn.Module, context: Any) -> nn.Module:
        if sum(1 for module in model.modules() if isinstance(module, nn.Conv2d)) > 30:
            raise MbcompressError("bad: too many layers")
        return model

    verdicts = check_component(bad(refuse), registry, architectures=[SMALL, "mobilenet_v2"])
    assert failed(verdicts) == {}
    assert str(verdicts[-1]).endswith("the pass refuses this model: bad: too many layers")
    assert failed(check_component(bad(refuse), registry, architectures=["mobilenet_v2"])) == {
        "applies": ("refuses every model it was tried on; it must work on at least one of mobilenet_v2",)
    }


def test_a_pass_on_int8_models_is_given_one(registry: Registry) -> None:
    needs = bad(lambda model, context: model, requires=frozenset({Trait.INT8}))
    trial = Trial(needs(), SMALL, registry)
    assert any(tensor.dtype == torch.int8 for tensor in trial.before.state_dict().values())
    assert trial.traits == {Trait.INT8}


def test_watching_puts_everything_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = (Path.cwd(), dict(os.environ), tempfile.tempdir, sys.dont_write_bytecode)
    with watched() as touched:
        (tmp_path / "made").write_text("")
        (tmp_path / "made").rename(tmp_path / "moved")
        (tmp_path / "moved").read_text()
        Path("here").touch()
    assert (Path.cwd(), dict(os.environ), tempfile.tempdir, sys.dont_write_bytecode) == before
    assert {Path(path).name for path in touched} == {"made", "moved", "here"}
    (tmp_path / "afterwards").write_text("")
    assert "afterwards" not in {Path(path).name for path in touched}
