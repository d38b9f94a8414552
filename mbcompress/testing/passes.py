"""Checks of passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mbcompress.contract.passes import traits_after
from mbcompress.contract.traits import Trait
from mbcompress.errors import PassError, shown
from mbcompress.testing.result import CheckResult, Skipped, run_checks
from mbcompress.testing.traits import MEANING, UNDECLARED, observe
from mbcompress.testing.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor, nn

    from mbcompress.testing.options import Subject

FLOAT_TOLERANCE = 1e-3
LEAST_SQNR = 15.0  # dB; built-in passes reach more than 20


def check_pass(subject: Subject, architectures: Sequence[str]) -> Iterator[CheckResult]:
    """All checks on all model sources and examples; the pass must accept at least one model."""
    rejected = []
    for pass_ in subject.instances():
        for source in architectures:
            results = _check_on(Trial(pass_, source, subject.registry), f"{subject.label} on {source}")
            rejected.append(all(result.outcome == "skipped" for result in results))
            yield from results
    if all(rejected):
        advice = "it must work on at least one of " + ", ".join(architectures)
        yield CheckResult(subject.label, "applies", "failed", (f"rejects every test model; {advice}",))


def _check_on(trial: Trial, label: str) -> list[CheckResult]:
    first = run_checks(label, {"applies": lambda: check_applies(trial)})
    if first[0].outcome != "passed":
        return first  # there is no output to check
    checks: dict[str, Callable[[Trial], Iterable[str]]] = {
        "writes nothing": check_writes,
        "input": check_input,
        "deterministic": check_deterministic,
        "exportable": check_exportable,
        "traits": check_traits,
    }
    return first + run_checks(label, {name: lambda check=check: check(trial) for name, check in checks.items()})  # type: ignore[misc]


def check_applies(trial: Trial) -> Iterator[str]:
    """The output is a model with logits of the same shape, all finite."""
    try:
        logits = trial.logits(trial.output)
    except PassError as error:
        if error.__cause__:
            raise
        yield str(error).strip()
        return
    if not torch.isfinite(logits).all():
        yield "returns a model with NaN or infinite logits; limit the change, or raise an MbcompressError"


def check_writes(trial: Trial) -> Iterator[str]:
    """The pass writes only to the temporary directory."""
    for path in sorted(trial.written):
        yield (
            f"touches {path}; write only below tempfile.mkdtemp(), and return results in the model, context.metrics "
            "or context.files"
        )


def check_input(trial: Trial) -> Iterator[str]:
    """The input model is unchanged, unless the pass declares `consumes_input`."""
    if trial.pass_.consumes_input:
        return
    advice = "copy.deepcopy(model) first, or set consumes_input = True"
    before, after = trial.original.state_dict(), trial.input.state_dict()
    different = [key for key in before if key not in after or not torch.equal(before[key], after[key])]
    if different or len(before) != len(after):
        yield f"changes {shown(different[0] if different else 'the parameters')} of the input model; {advice}"
    elif any(module.training for module in trial.input.modules()):
        yield f"leaves the input model in training mode; {advice}"
    elif not torch.equal(trial.logits(trial.original), trial.logits(trial.input)):
        yield f"changes the logits of the input model; {advice}"


def check_deterministic(trial: Trial) -> Iterator[str]:
    """The same seed gives a bit-identical model."""
    first, second = trial.output, trial.repeated
    advice = "draw from torch, which is seeded before each pass, or from numpy.random.default_rng(context.seed)"
    if different := _difference(first, second):
        yield f"returns a different {shown(different)} with the same seed; {advice}"
    elif not torch.equal(trial.logits(first), trial.logits(second)):
        yield f"returns a model with different logits with the same seed; {advice}"


def _difference(first: nn.Module, second: nn.Module) -> str | None:
    """The first tensor in which two models differ."""
    ours, theirs = first.state_dict(), second.state_dict()
    for key in sorted({*ours, *theirs}):
        if key not in ours or key not in theirs or not torch.equal(ours[key], theirs[key]):
            return key
    return None


def check_exportable(trial: Trial) -> Iterator[str]:
    """The exported file has the model's logits, in ONNX Runtime unless the pass names another runtime."""
    try:
        logits, _ = trial.exported
    except Exception as error:  # the model's code may raise anything
        reason = " ".join(str(error).split())[:300]
        yield (
            f"returns a model that cannot be exported to ONNX: {type(error).__name__}: {reason}; use operators that "
            "torch.export can trace, without control flow on tensor values"
        )
        return
    expected = trial.logits(trial.output)
    if not _agrees(expected, torch.from_numpy(logits), exactly=Trait.INT8 not in trial.pass_.provides):
        worst = float((expected - torch.from_numpy(logits)).abs().max())
        yield f"the logits of the exported file differ by up to {worst:.3g}; remove state that export cannot capture"


def _agrees(expected: Tensor, actual: Tensor, *, exactly: bool) -> bool:
    if expected.shape != actual.shape:
        return False
    if exactly:
        return bool(torch.allclose(expected, actual, atol=FLOAT_TOLERANCE, rtol=FLOAT_TOLERANCE))
    noise = (expected - actual).square().sum()
    return 10 * float(np.log10(max(float(expected.square().sum()), 1e-12) / max(float(noise), 1e-12))) > LEAST_SQNR


def check_traits(trial: Trial) -> Iterator[str]:
    """The output has the traits that the pass provides or keeps, and none that it destroys."""
    pass_ = trial.pass_
    declared = traits_after(trial.traits, pass_)
    try:
        actual = observe(trial.output, trial.images, lambda: trial.exported[1])
    except Exception as error:
        raise Skipped("the model cannot be exported") from error
    for trait in MEANING:
        name = f"Trait.{trait.name}"
        if trait in declared and trait not in actual:
            reason = "provides" if trait in pass_.provides else "keeps"
            yield f"the model lacks {name} ({MEANING[trait]}), which the pass {reason}; correct provides and destroys"
        elif trait in actual and trait not in declared and trait not in UNDECLARED:
            reason = "destroys" if trait in pass_.destroys else "does not declare"
            yield f"the model has {name} ({MEANING[trait]}), which the pass {reason}; correct provides and destroys"
