"""Apply a pass and check that it follows the contract; errors name the pass."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from mbcompress.errors import (
    LIMITS,
    MEMORY_ADVICE,
    MbcompressError,
    PassError,
    brief,
    first_line,
    out_of_memory,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from mbcompress.contract.context import Context
    from mbcompress.contract.passes import Pass


def apply_pass(component: Pass, model: nn.Module, context: Context, label: str) -> nn.Module:
    """Apply a pass and return its model in eval mode.

    Args:
        component: the pass.
        label: prefix of PassError messages.

    Raises:
        MbcompressError: raised by the pass, or out of memory.
        PassError: the pass raised another exception, did not return a module, changed the shape of the logits, or
            reported metrics that are not finite numbers.
    """
    with context.progress.attributed(component.name):
        changed = _call(partial(component.apply, model, context), component, label)
    _check_outputs(changed.eval(), context, label)
    _check_metrics(context.metrics, label)
    return changed


def preview_pass(component: Pass, model: nn.Module, context: Context) -> nn.Module:
    """Return a later pass's preview of this model, in eval mode; raises the same errors as `apply_pass`."""
    label = f"the preview of pass {component.name!r}"
    changed = _call(partial(component.preview, model, context), component, label).eval()
    _check_outputs(changed, context, label)
    return changed


def _call(change: Callable[[], object], component: Pass, label: str) -> nn.Module:
    from torch import nn

    try:
        changed = change()
    except (MbcompressError, PassError):
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, OSError) and error.errno in LIMITS:
            raise
        if out_of_memory(error):
            raise MbcompressError(f"{component.name}: out of memory ({first_line(error)}); {MEMORY_ADVICE}") from error
        raise PassError(f"{label} raised {type(error).__name__}: {brief(str(error))}") from error
    if not isinstance(changed, nn.Module):
        raise PassError(f"{label} returned {brief(repr(changed))}; it must return an nn.Module, as it was given one")
    return changed


def _check_outputs(model: nn.Module, context: Context, label: str) -> None:
    """Check that the logits for two images have the same shape as the baseline's."""
    import torch

    example = context.example(2)
    with torch.no_grad():
        expected = tuple(context.baseline(example).shape)
        try:
            logits = model(example)
        except Exception as error:
            problem = f"returned a model that cannot run on images of {tuple(example.shape)}"
            raise PassError(f"{label} {problem}: {type(error).__name__}: {brief(str(error))}") from error
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if shape != expected:
        raise PassError(
            f"{label} returned a model with another output shape: {shape} for two images, and it was {expected}; "
            "a pass must keep the shape of the logits"
        )


def _check_metrics(metrics: dict[str, float], label: str) -> None:
    for name, value in metrics.items():
        if not isinstance(name, str) or not isinstance(value, int | float) or not math.isfinite(value):
            raise PassError(
                f"{label} reported the metric {shown(name)} as {shown(value)}; metrics must be finite Python numbers "
                "by name"
            )
