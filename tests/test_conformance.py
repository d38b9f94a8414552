"""The conformance kit: all built-ins pass, and every check can fail with a message that says what to change."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from plugin_packages import OFFERS_SQUEEZE, SQUEEZE, Install
from pydantic import BaseModel, ConfigDict, Field, field_validator

from mbcompress import MbcompressError
from mbcompress.contract.options import Component
from mbcompress.registry.discovery import Registry, discover
from mbcompress.testing import CheckResult, check_component, check_plugin
from mbcompress.testing.imports import check_imports
from mbcompress.testing.kit import ARCHITECTURES

BUILT_IN_PASSES = ("distill", "prune", "prune_blocks", "ptq", "qat", "sensitivity", "sparsify", "train", "winograd")


def failed(results: list[CheckResult]) -> dict[str, tuple[str, ...]]:
    return {result.check: result.problems for result in results if not result.passed}


ALWAYS = {"ptq": "mobilenet_v2", "qat": "mobilenet_v3_small", "sensitivity": "mobilenet_v1", "train": "mobilenet_v1"}
"""The architecture on which a slow pass is always tested; the others are marked slow."""


@pytest.mark.parametrize(
    ("name", "source"),
    [
        pytest.param(name, source, marks=[] if ALWAYS.get(name, source) == source else pytest.mark.slow)
        for name in BUILT_IN_PASSES
        if name != "prune_blocks"
        for source in ARCHITECTURES
    ],
)
def test_built_in_passes(name: str, source: str, registry: Registry) -> None:
    results = check_component(registry.passes.classes[name], registry, kind="pass", architectures=[source])
    assert [str(result) for result in results if result.outcome != "passed"] == []
    assert len(results) == 10


def test_a_built_in_pass_that_rejects_some_models(registry: Registry) -> None:
    sources = ("mobilenet_v1", "mobilenet_v2")
    results = check_component(registry.passes.classes["prune_blocks"], registry, kind="pass", architectures=sources)
    others = [str(result) for result in results if result.outcome == "failed"]
    assert others == []
    (refused,) = (str(result) for result in results if "no residual blocks" in str(result))
    assert refused.startswith("pass 'prune_blocks' on mobilenet_v1: applies: the pass rejects this model")


def test_every_built_in_pass_is_tested(registry: Registry) -> None:
    ours = {cls.name for cls, origin in registry.passes if origin.distribution == "mbcompress"}
    assert ours == set(BUILT_IN_PASSES)


def test_built_in_passes_that_consume_their_input(registry: Registry) -> None:
    consuming = {name for name in BUILT_IN_PASSES if registry.passes.classes[name].consumes_input}
    assert consuming == {"train", "distill", "sparsify"}


ALWAYS_TRIED = {
    "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "resnet9", "digits", "arrays", "onnx",
    "torch", "agreement", "calibration",
}  # fmt: skip
"""Components that need no files of the user and no optional dependency."""

OTHERS = [
    (kind.name, cls.name)
    for kind in discover().kinds
    if kind.name != "pass"
    for cls, origin in kind
    if origin.distribution == "mbcompress"
]


@pytest.mark.parametrize(("kind", "name"), OTHERS)
def test_other_built_ins(kind: str, name: str, registry: Registry, tmp_path: Path) -> None:
    images, labels = np.zeros((300, 32, 32, 3), np.uint8), np.arange(300) % 3
    np.savez(tmp_path / "arrays.npz", images=images, labels=labels)
    given = {"arrays": [{"path": str(tmp_path / "arrays.npz")}]}
    (cls,) = [group.classes[name] for group in registry.kinds if group.name == kind]
    results = check_component(cls, registry, given.get(name), kind=kind)
    assert [str(result) for result in results if not result.passed] == []
    skipped = [str(result) for result in results if result.outcome == "skipped"]
    assert skipped == [] or name not in ALWAYS_TRIED


def test_built_in_plugins_import_no_torch(registry: Registry) -> None:
    ours = [origin for origin in registry.plugins if origin.distribution == "mbcompress"]
    assert [problem for origin in ours for problem in check_imports(origin, registry)] == []


class Bare(Component):
    """For checks of options."""

    name: ClassVar[str] = "bare"


class NoDescription(Bare):
    """An option without a description."""

    force: float = 1.0


class Inner(BaseModel):
    depth: int = 1


class NestedNoDescription(Bare):
    """A nested option without a description."""

    inner: Inner | None = Field(default=None, description="Nested.")


class NoDocstring(Bare):
    pass


class BadName(Bare):
    """Its name does not work in an override."""

    name: ClassVar[str] = "a.b c"


class TakesAnything(Bare):
    """Accepts unknown options."""

    model_config = ConfigDict(extra="ignore")


class NoDefault(Bare):
    """An option without a default."""

    force: float = Field(description="How hard.")


class RefusesItsDefaults(Bare):
    """Cannot be built without options."""

    force: float = Field(default=1.0, description="How hard.")

    @field_validator("force")
    @classmethod
    def _never(cls, force: float) -> float:
        raise ValueError("is never right")

    model_config = ConfigDict(validate_default=True)


class NoSchema(Bare):
    """An option of a type that JSON does not have."""

    weights: np.ndarray | None = Field(default=None, description="As an array.")


class Doubles(Bare):
    """A validator that changes the value every time."""

    force: float = Field(default=1.0, description="How hard.")
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"force": 2},)

    @field_validator("force")
    @classmethod
    def _double(cls, force: float) -> float:
        return 2 * force


class RefusesItsOwn(Bare):
    """A validator that rejects its own output."""

    force: str | int = Field(default="1", description="How hard.")
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"force": "2"},)

    @field_validator("force", mode="before")
    @classmethod
    def _text_only(cls, force: object) -> int:
        if not isinstance(force, str):
            raise ValueError("must be text")
        return int(force)


@pytest.mark.parametrize(
    ("cls", "check", "problem"),
    [
        (NoDescription, "descriptions", "option 'force' needs a description: force: … = Field(…, description='…')"),
        (NestedNoDescription, "descriptions", "option 'inner.depth' needs a description"),
        (NoDocstring, "descriptions", "class NoDocstring needs a docstring"),
        (BadName, "descriptions", "name 'a.b c' must consist of letters, digits, '_' and '-'"),
        (TakesAnything, "descriptions", "model_config must keep extra='forbid' and frozen=True"),
        (NoDefault, "defaults", "option 'force' needs a default, or a value in the class's examples"),
        (RefusesItsDefaults, "defaults", "cannot be built from {}: force: is never right; set examples to"),
        (NoSchema, "schema", "has no JSON Schema: "),
        (Doubles, "round trip", "Doubles(force=4.0) becomes Doubles(force=8.0) through its model_dump()"),
        (RefusesItsOwn, "round trip", "rejects its own model_dump(): force: must be text"),
    ],
)
def test_options_that_fail(cls: type[Component], check: str, problem: str, registry: Registry) -> None:
    problems = failed(check_component(cls, registry))
    assert problems[check][0].startswith(problem)
    assert set(problems) <= {check, "defaults"}


def test_examples_replace_defaults(registry: Registry) -> None:
    assert failed(check_component(NoDefault, registry, [{"force": 1.0}])) == {}


def test_without_examples_behavior_is_skipped(registry: Registry) -> None:
    results = check_component(NoDefault, registry, [])
    assert {result.check: result.outcome for result in results} == {
        "descriptions": "passed", "defaults": "passed", "schema": "passed", "round trip": "skipped"
    }  # fmt: skip
    assert "pass options with --option KEY=VALUE" in str(results[-1])


def test_a_plugin_that_imports_torch(install: Install) -> None:
    install("mb-squeeze", "import torch\n" + SQUEEZE + OFFERS_SQUEEZE)
    (problem,) = failed(check_plugin("mb-squeeze", discover(), {"unknown": 1}))["imports no torch"]
    assert problem.startswith("imports torch on discovery (")
    assert problem.endswith("mb_squeeze.py, line 5); import it inside the functions that need it")


def test_a_hook_that_imports_torch(install: Install) -> None:
    attempt = "    try:\n        import torch.nn\n    except ImportError: pass\n"
    late = OFFERS_SQUEEZE.replace("    return", f"{attempt}    return")
    install("mb-squeeze", SQUEEZE + late)
    assert "mb_squeeze.py, line " in failed(check_plugin("squeezer", discover(), {"unknown": 1}))["imports no torch"][0]


def test_a_broken_plugin_fails_with_its_reason(install: Install) -> None:
    install("mb-squeeze", "1 / 0")
    assert failed(check_plugin("squeezer", discover())) == {
        "loads": ("ZeroDivisionError: division by zero (mb_squeeze.py, line 5)",)
    }


def test_unknown_and_blocked_names(install: Install, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MbcompressError, match=r"^unknown plugin 'prnue'; did you mean 'prune'\?"):
        check_plugin("prnue", registry)
    install("mb-squeeze", SQUEEZE + OFFERS_SQUEEZE)
    monkeypatch.setenv("MBCOMPRESS_BLOCK", "squeezer")
    with pytest.raises(MbcompressError, match=r"^plugin 'squeezer' of mb-squeeze 1.2 is blocked, so it"):
        check_plugin("squeezer", discover())
