"""Passes that break the contract in one way: the kit reports it and says what to change."""

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
from mbcompress.testing import CheckResult, check_component
from mbcompress.testing.passes import check_exportable, check_traits
from mbcompress.testing.traits import MEANING
from mbcompress.testing.trial import Trial
from mbcompress.testing.writes import watched

SMALL = "mobilenet_v1"


def failed(results: list[CheckResult]) -> dict[str, tuple[str, ...]]:
    return {result.check: result.problems for result in results if not result.passed}


@pytest.fixture
def without_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the export, which takes seconds."""
    monkeypatch.setattr("mbcompress.testing.passes.check_exportable", lambda trial: ())
    monkeypatch.setattr("mbcompress.testing.passes.check_traits", lambda trial: ())


def test_numpy_is_seeded(registry: Registry) -> None:
    def jitter(model: nn.Module, context: Any) -> nn.Module:
        for parameter in model.parameters():
            parameter.data *= 1 + 0.01 * np.random.rand()
        return model

    before = np.random.get_state()[1]
    trial = Trial(bad(jitter)(), SMALL, registry)
    pairs = zip(trial.output.parameters(), trial.repeated.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert np.array_equal(np.random.get_state()[1], before)


class Bad(Pass):
    """Calls `do`."""

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
    torch.save({}, "squeeze.pt")  # by C++, without a Python audit event
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
        (
            lambda model, context: nn.Sequential(model, nn.Linear(10, 3)),
            "applies",
            "returned a model with another output shape",
        ),
        (fills(float("nan")), "applies", "returns a model with NaN or infinite logits; limit the change"),
        (fills(0.5), "input", "changes 'features.0.weight' of the input model; copy.deepcopy(model) first"),
        (trains, "input", "leaves the input model in training mode; copy.deepcopy(model) first"),
        (hooks, "input", "changes the logits of the input model; copy.deepcopy(model) first"),
        (draws, "deterministic", "returns a different 'features.0.weight' with the same seed; draw from"),
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
    assert list(tmp_path.iterdir()) == []  # what a check writes is deleted with it
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
    """Branches on a tensor value, which export cannot capture."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(images)
        return logits if logits.sum() > 0 else -logits


class Guesses(nn.Module):
    """Returns different logits in every call."""

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
        (Guesses, "the logits of the exported file differ by up to "),
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
            "the model lacks Trait.FLOAT (floating-point weights that can be copied and trained), which the pass "
            "keeps; correct provides and destroys",
        ),
        (
            lambda model, context: model,
            {"provides": frozenset({Trait.INT8})},
            "the model lacks Trait.INT8 (convolutions that ONNX Runtime executes on integers), which the pass "
            "provides; correct provides and destroys",
        ),
        (
            lambda model, context: model,
            {"destroys": frozenset({Trait.FLOAT})},
            "the model has Trait.FLOAT (floating-point weights that can be copied and trained), which the pass "
            "destroys; correct provides and destroys",
        ),
    ],
    ids=["loses float", "is not int8", "still is float"],
)
def test_wrong_traits(
    do: Callable[[nn.Module, Any], object], declares: dict[str, Any], problem: str, registry: Registry
) -> None:
    trial = Trial(bad(do, **declares)(), SMALL, registry)
    trial.exported = (np.zeros(0), ConvolutionCount(27, 0))  # instead of an export, which takes seconds
    assert list(check_traits(trial)) == [problem]


def test_a_trait_that_is_not_declared(registry: Registry) -> None:
    qat = registry.passes.classes["qat"]
    silent = type("Silent", (qat,), {"__doc__": "S.", "__module__": __name__, "provides": frozenset()})
    results = check_component(silent, registry, [{"training": {"epochs": 0}}], architectures=[SMALL])
    assert failed(results)["traits"][0].startswith("the model has Trait.INT8 (convolutions that ONNX Runtime executes")


@pytest.mark.parametrize(
    ("share", "provides", "problem"),
    [
        (0.5, {Trait.SPARSE}, []),
        (0.5, set(), []),  # zeros may appear by chance
        (
            0.0,
            {Trait.SPARSE},
            [
                "the model lacks Trait.SPARSE (a weight of which at least 1 % is zero), which the pass provides; "
                "correct provides and destroys"
            ],
        ),
    ],
)
def test_declared_zeros(share: float, provides: set[Trait], problem: list[str], registry: Registry) -> None:
    def blank(model: nn.Module, context: Any) -> nn.Module:
        model = copy.deepcopy(model)
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.data.flatten()[: int(share * layer.weight.numel())] = 0
        return model

    trial = Trial(bad(blank, provides=frozenset(provides))(), SMALL, registry)
    trial.exported = (np.zeros(0), ConvolutionCount(27, 0))
    assert list(check_traits(trial)) == problem


def test_every_trait_is_observed() -> None:
    assert set(MEANING) == set(Trait)


@pytest.mark.usefixtures("without_export")
def test_a_pass_may_reject_some_models_but_not_all(registry: Registry) -> None:
    def refuse(model: nn.Module, context: Any) -> nn.Module:
        if sum(1 for module in model.modules() if isinstance(module, nn.Conv2d)) > 30:
            raise MbcompressError("bad: too many layers")
        return model

    results = check_component(bad(refuse), registry, architectures=[SMALL, "mobilenet_v2"])
    assert failed(results) == {}
    assert str(results[-1]).endswith("the pass rejects this model: bad: too many layers")
    assert failed(check_component(bad(refuse), registry, architectures=["mobilenet_v2"])) == {
        "applies": ("rejects every test model; it must work on at least one of mobilenet_v2",)
    }


def test_a_pass_that_requires_int8_gets_an_int8_model(registry: Registry) -> None:
    needs = bad(lambda model, context: model, requires=frozenset({Trait.INT8}))
    trial = Trial(needs(), SMALL, registry)
    assert any(tensor.dtype == torch.int8 for tensor in trial.original.state_dict().values())
    assert trial.traits == {Trait.INT8}


def test_watching_restores_the_process_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
