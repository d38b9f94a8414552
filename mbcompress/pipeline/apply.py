"""Applies one pass of a plan and holds it to its contract; whatever a pass does wrong is said with whose it is."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from mbcompress.errors import (
    LIMITS,
    MEMORY_ADVICE,
    Location,
    MbcompressError,
    PassError,
    RecipeError,
    brief,
    first_line,
    out_of_memory,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mbcompress.contract.context import Context
    from mbcompress.contract.passes import Pass
    from mbcompress.recipe.model import Recipe
    from mbcompress.registry.registry import Origin, Registry


def apply_pass(plan: Recipe, index: int, model: nn.Module, context: Context, registry: Registry) -> nn.Module:
    """The model that pass `index` of `plan` gives, in eval mode.

    Raises:
        MbcompressError: what the user asked for cannot be done to this model; of the pass's own kind, with its place.
        PassError: the pass raised anything else, returned something that is no model with the same outputs, or
            reported metrics that no report can hold.
    """
    step = plan.passes[index]
    location = plan.locations[index] if plan.locations else Location(plan.name)
    culprit = f"{location}: {_name(step, registry.passes.origin_of(step))}"
    try:
        return apply_checked(step, model, context, culprit)
    except MbcompressError as error:
        if not isinstance(error, RecipeError):
            error.args = (f"{location}: {error}", *error.args[1:])  # its class stays, which callers may look for
        raise


def apply_checked(step: Pass, model: nn.Module, context: Context, culprit: str) -> nn.Module:
    """As `apply_pass`; `culprit` is what the message of a PassError begins with."""
    with context.progress.attributed(step.name):
        changed = _called(partial(step.apply, model, context), step, culprit)
    _check_outputs(changed.eval(), context, culprit)
    _check_metrics(context.metrics, culprit)
    return changed


def preview_checked(step: Pass, model: nn.Module, context: Context) -> nn.Module:
    """What a pass that is to come would make of a model, in eval mode; raises as `apply_pass`."""
    culprit = f"the preview of pass {step.name!r}"
    changed = _called(partial(step.preview, model, context), step, culprit).eval()
    _check_outputs(changed, context, culprit)
    return changed


def _called(change: Callable[[], object], step: Pass, culprit: str) -> nn.Module:
    """What a pass returned; what it raised instead is said to be its own."""
    try:
        changed = change()
    except (MbcompressError, PassError):
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, OSError) and error.errno in LIMITS:
            raise
        if out_of_memory(error):
            raise MbcompressError(f"{step.name}: out of memory ({first_line(error)}); {MEMORY_ADVICE}") from error
        raise PassError(f"{culprit} raised {type(error).__name__}: {brief(str(error))}") from error
    if not isinstance(changed, nn.Module):
        raise PassError(f"{culprit} returned {brief(repr(changed))}; it must return an nn.Module, as it was given one")
    return changed


def _name(step: Pass, origin: Origin | None) -> str:
    return f"pass {step.name!r} ({origin})" if origin else f"pass {step.name!r}"


def _check_outputs(model: nn.Module, context: Context, culprit: str) -> None:
    """Two images must give as many logits each as they did before all passes."""
    example = context.example(2)
    with torch.no_grad():
        wanted = tuple(context.baseline(example).shape)
        try:
            logits = model(example)
        except Exception as error:
            problem = f"returned a model that cannot run on images of {tuple(example.shape)}"
            raise PassError(f"{culprit} {problem}: {type(error).__name__}: {brief(str(error))}") from error
    found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if found != wanted:
        raise PassError(
            f"{culprit} returned a model whose output changed: {found} for two images, and it was {wanted}; "
            "a pass must keep the shape of the logits"
        )


def _check_metrics(metrics: dict[str, float], culprit: str) -> None:
    for name, value in metrics.items():
        if not isinstance(name, str) or not isinstance(value, int | float) or not math.isfinite(value):
            raise PassError(
                f"{culprit} reported the metric {shown(name)} as {shown(value)}; metrics must be finite Python numbers "
                "by name"
            )
