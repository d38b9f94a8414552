"""Depth pruning: replace residual blocks by the identity.

The importance of a block is the increase in validation loss without it, per MAC saved, after Men et al., "ShortGPT",
2024, https://arxiv.org/abs/2403.03853.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mbcompress.training import evaluate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mbcompress import Context


def residual_blocks(model: nn.Module, context: Context) -> list[str]:
    """Return the names of the innermost modules that compute `x + f(x)`.

    A module qualifies if its output equals its input once its parameters are zero; this is tested on a copy. A sequence
    of such blocks qualifies too, so modules that contain others are dropped.
    """
    probe = copy.deepcopy(model).eval()
    found = [
        name
        for name, module in probe.named_modules()
        if name
        and any(True for _ in module.parameters())
        and not isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d)
        and _passes_input_on(probe, module, context)
    ]
    return [name for name in found if not any(other.startswith(f"{name}.") for other in found)]


def _passes_input_on(probe: nn.Module, module: nn.Module, context: Context) -> bool:
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    seen: list[bool] = []

    def look(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        match (*inputs, output):
            case (Tensor() as image, Tensor() as passed):
                seen.append(torch.equal(image, passed) and bool(image.any()))
            case _:
                seen.append(False)

    hook = module.register_forward_hook(look)
    try:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()
            probe(next(iter(context.calibration_batches(2))))
    except RuntimeError:  # zero parameters may break the model
        seen.append(False)
    finally:
        hook.remove()
        module.load_state_dict(before, strict=False)
    return bool(seen) and all(seen)


def remove_blocks(model: nn.Module, names: Sequence[str]) -> nn.Module:
    """Return a copy of `model` in which the named modules are the identity."""
    model = copy.deepcopy(model).eval()
    for name in names:
        model.set_submodule(name, nn.Identity())
    return model


def least_important_block(
    model: nn.Module, blocks: Sequence[str], context: Context, images: int
) -> tuple[str, dict[str, float]]:
    """Return the block whose removal increases the loss least per MAC saved, and the loss increase of each block."""
    from mbcompress.graph import count_macs

    example = context.example()
    validation = context.data.validation.take(np.arange(min(images, len(context.data.validation))))

    def loss(model: nn.Module) -> float:
        return -evaluate(model, validation, context.data.normalization, context.device).negative_loss

    whole, operations = loss(model), count_macs(model, example)
    rises, worth = {}, {}
    for name in context.progress.track(blocks, "least important block", len(blocks)):
        candidate = remove_blocks(model, [name])
        rises[name] = loss(candidate) - whole
        worth[name] = rises[name] / (operations - count_macs(candidate, example))
    return min(worth, key=lambda name: worth[name]), rises
