"""Detect N:M sparsity that channel pruning destroys by changing the groups of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbcompress import Trait

from .channels import PRUNABLE

if TYPE_CHECKING:
    from torch import nn

    from mbcompress import Context

PATTERNS = {"2:4": (2, 4), "4:8": (4, 8)}


def report_lost_patterns(before: nn.Module, after: nn.Module, context: Context) -> None:
    """Report how many layers lose the N:M pattern of an earlier pass."""
    if Trait.SPARSE not in context.traits:
        return
    for name, (kept, group) in PATTERNS.items():
        had, has = (_holding(model, kept, group) for model in (before, after))
        if lost := len(had - has):
            context.progress.say(
                f"prune: {lost} of {len(had)} layers lose their {name} sparsity with their input channels; put "
                "'prune' before 'sparsify' to keep it"
            )
            return  # 2:4 implies 4:8


def _holding(model: nn.Module, kept: int, group: int) -> set[str]:
    """Layers with at most `kept` nonzero weights in every `group` along the input channels."""
    return {
        name
        for name, layer in model.named_modules()
        if isinstance(layer, PRUNABLE)
        and layer.weight.shape[1] % group == 0
        and bool(((layer.weight != 0).movedim(1, -1).reshape(-1, group).sum(1) <= kept).all())
    }
