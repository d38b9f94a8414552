"""Checks of what a pass does to models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mbcompress.contract.traits import Trait
from mbcompress.errors import PassError, shown
from mbcompress.testing.traits import MEANING, UNDECLARED, observed
from mbcompress.testing.trial import Trial
from mbcompress.testing.verdict import Skipped, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor, nn

    from mbcompress.testing.options import Subject

FLOAT_TOLERANCE = 1e-3
LEAST_SQNR = 15.0  # dB; built-in passes leave more than 20


def check_pass(subject: Subject, architectures: Sequence[str]) -> Iterator[Verdict]:
    """Every check on every model source and example; a pass must be able to do something to one of them."""
    refused = []
    for step in subject.instances():
        for source in architectures:
            verdicts = _check_on(Trial(step, source, subject.registry), f"{subject.label} on {source}")
            refused.append(all(verdict.outcome == "skipped" for verdict in verdicts))
            yield from verdicts
    if all(refused):
        advice = "it must work on at least one of " + ", ".join(architectures)
        yield Verdict(subject.label, "applies", "failed", (f"refuses every model it was tried on; {advice}",))


def _check_on(trial: Trial, label: str) -> list[Verdict]:
    first = judge(label, {"applies": lambda: check_applies(trial)})
    if first[0].outcome != "passed":
        return first  # nothing came out that could be looked at
    checks: dict[str, Callable[[Trial], Iterable[str]]] = {
        "writes nothing": check_writes,
        "input": check_input,
        "deterministic": check_deterministic,
        "exportable": check_exportable,
        "traits": check_traits,
    }
    return first + judge(label, {name: lambda check=check: check(trial) for name, check in checks.items()})  # type: ignore[misc]


def check_applies(trial: Trial) -> Iterator[str]:
    """What comes out is a model with the same outputs as before, all of them numbers."""
    try:
        logits = trial.logits(trial.changed)
    except PassError as error:
        if error.__cause__:
            raise
        yield str(error).strip()
        return
    if not torch.isfinite(logits).all():
        yield "returns a model whose logits are NaN or infinite; limit the step, or refuse with an MbcompressError"


def check_writes(trial: Trial) -> Iterator[str]:
    """Nothing is written outside the temporary directory."""
    for path in sorted(trial.written):
        yield (
            f"touches {path}; write below tempfile.mkdtemp() only, and hand results on in the model and in "
            "context.metrics"
        )


def check_input(trial: Trial) -> Iterator[str]:
    """The model that went in is as it was, unless the pass says that it consumes it."""
    if trial.step.consumes_input:
        return
    advice = "copy.deepcopy(model) first, or set consumes_input = True"
    before, after = trial.before.state_dict(), trial.given.state_dict()
    changed = [key for key in before if key not in after or not torch.equal(before[key], after[key])]
    if changed or len(before) != len(after):
        yield f"changes {shown(changed[0] if changed else 'the parameters')} of the model that it is given; {advice}"
    elif any(module.training for module in trial.given.modules()):
        yield f"leaves the model that it is given in training mode; {advice}"
    elif not torch.equal(trial.logits(trial.before), trial.logits(trial.given)):
        yield f"changes what the model that it is given answers; {advice}"


def check_deterministic(trial: Trial) -> Iterator[str]:
    """The same seed gives the same model, to the last bit."""
    first, second = trial.changed, trial.again
    advice = "draw from torch, which is seeded before each pass, or from numpy.random.default_rng(context.seed)"
    if different := _difference(first, second):
        yield f"gives another {shown(different)} when it is repeated with the same seed; {advice}"
    elif not torch.equal(trial.logits(first), trial.logits(second)):
        yield f"gives a model with other logits when it is repeated with the same seed; {advice}"


def _difference(first: nn.Module, second: nn.Module) -> str | None:
    """The first tensor in which two models differ."""
    ours, theirs = first.state_dict(), second.state_dict()
    for key in sorted({*ours, *theirs}):
        if key not in ours or key not in theirs or not torch.equal(ours[key], theirs[key]):
            return key
    return None


def check_exportable(trial: Trial) -> Iterator[str]:
    """The runtime, ONNX Runtime where the pass names none, gives the same logits as the model."""
    try:
        logits, _ = trial.exported
    except Exception as error:  # the exporter raises what the model's code happens to meet
        reason = " ".join(str(error).split())[:300]
        yield (
            f"returns a model that cannot be exported to ONNX: {type(error).__name__}: {reason}; use operators that "
            "torch.export can trace, without branches on values"
        )
        return
    expected = trial.logits(trial.changed)
    if not _agrees(expected, torch.from_numpy(logits), exactly=Trait.INT8 not in trial.step.provides):
        worst = float((expected - torch.from_numpy(logits)).abs().max())
        yield f"the exported file's logits differ by up to {worst:.3g}; do without state that export cannot see"


def _agrees(expected: Tensor, found: Tensor, *, exactly: bool) -> bool:
    if expected.shape != found.shape:
        return False
    if exactly:
        return bool(torch.allclose(expected, found, atol=FLOAT_TOLERANCE, rtol=FLOAT_TOLERANCE))
    noise = (expected - found).square().sum()
    return 10 * float(np.log10(max(float(expected.square().sum()), 1e-12) / max(float(noise), 1e-12))) > LEAST_SQNR


def check_traits(trial: Trial) -> Iterator[str]:
    """The model has what the pass says that it provides or keeps, and nothing that it says it destroys."""
    step = trial.step
    declared = (trial.traits - step.destroys) | step.provides
    try:
        found = observed(trial.changed, trial.images, lambda: trial.exported[1])
    except Exception as error:
        raise Skipped("what cannot be exported cannot be looked at") from error
    for trait in MEANING:
        name = f"Trait.{trait.name}"
        if trait in declared and trait not in found:
            reason = "it declares to provide" if trait in step.provides else "it was given and does not destroy"
            yield f"the model lacks {name} ({MEANING[trait]}), which {reason}; add it to destroys, or keep it"
        elif trait in found and trait not in declared and trait not in UNDECLARED:
            reason = "which it declares to destroy" if trait in step.destroys else "which it does not declare"
            yield f"the model has {name} ({MEANING[trait]}), {reason}; provides and destroys must say what happens"
