"""N:M sparsity, which is lost where input channels are pruned: the groups of weights change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbcompress import Trait

from .channels import PRUNABLE

if TYPE_CHECKING:
    from torch import nn

    from mbcompress import Context

PATTERNS = {"2:4": (2, 4), "4:8": (4, 8)}


def report_lost_patterns(before: nn.Module, after: nn.Module, context: Context) -> None:
    """Report in how many layers a pattern is lost that an earlier pass has made."""
    if Trait.SPARSE not in context.traits:
        return
    for name, (kept, group) in PATTERNS.items():
        had, has = (_holding(model, kept, group) for model in (before, after))
        if lost := len(had - has):
            context.progress.say(
                f"prune: {lost} of {len(had)} layers lose their {name} sparsity with their input channels; prune "
                "before 'sparsify' to have both"
            )
            return  # what holds 2:4 holds 4:8


def _holding(model: nn.Module, kept: int, group: int) -> set[str]:
    """Layers in which at most `kept` of every `group` weights along the input channels are not zero."""
    return {
        name
        for name, layer in model.named_modules()
        if isinstance(layer, PRUNABLE)
        and layer.weight.shape[1] % group == 0
        and bool(((layer.weight != 0).movedim(1, -1).reshape(-1, group).sum(1) <= kept).all())
    }
