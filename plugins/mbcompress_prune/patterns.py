"""N:M zeros, which are lost where channels go: the groups of weights are others then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbcompress import Trait

from .channels import PRUNABLE

if TYPE_CHECKING:
    from torch import nn

    from mbcompress import Context

PATTERNS = {"2:4": (2, 4), "4:8": (4, 8)}


def tell_lost_patterns(before: nn.Module, after: nn.Module, context: Context) -> None:
    """Say in how many layers a pattern held and holds no more, where a pass before made the model sparse."""
    if Trait.SPARSE not in context.traits:
        return
    for name, (kept, group) in PATTERNS.items():
        had, has = (_holding(model, kept, group) for model in (before, after))
        if lost := len(had - has):
            context.progress.say(
                f"prune: zeros in the pattern {name} held in {len(had)} layers and no more in {lost} of them, whose "
                "input channels went; prune before 'sparsify' to have both"
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
