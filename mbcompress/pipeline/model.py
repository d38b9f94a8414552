"""Makes a module that was written for other purposes fit to be trained and evaluated here."""

import copy

import torch
from torch import Tensor, nn

from mbcompress.data.seed import fork_rng
from mbcompress.errors import MbcompressError, first_line
from mbcompress.graph import to_channels_last


def prepare_model(model: nn.Module, example: Tensor) -> None:
    """Unfreeze a module that is frozen as a whole, and let it take channels_last memory, in place.

    A module that is frozen in part stays so: somebody meant it. Training runs in channels_last, in which a `view` of a
    feature map fails; a module that has one gets hooks that bring the map back to NCHW before it is viewed.

    Args:
        model: in eval mode, on the CPU; runs on `example`.
        example: (N, C, H, W) float32, N at least 2.

    Raises:
        MbcompressError: the module cannot run in channels_last even so.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        model.requires_grad_(True)
    if _problem(model, example) is None:
        return
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(_contiguous_output)
    model.register_forward_pre_hook(_contiguous_input)
    if problem := _problem(model, example):
        raise MbcompressError(
            f"model: cannot run in channels_last memory, which training uses: {problem}; "
            "call reshape or flatten in place of view"
        )


def check_training(model: nn.Module, example: Tensor, label: str) -> None:
    """Refuse a model that answers with more than logits in training mode; a copy of it is tried.

    Args:
        example: (N, C, H, W) float32 on the CPU, N at least 2.
        label: what the sentence begins with.

    Raises:
        MbcompressError: it does.
    """
    with fork_rng(()), torch.no_grad():
        answer = copy.deepcopy(model).train()(example)
    if not isinstance(answer, Tensor):
        raise MbcompressError(
            f"{label}: in training the model answers with {type(answer).__name__} in place of logits alone, as "
            "networks with auxiliary classifiers do; build it without them (torchvision: 'aux_logits: false')"
        )


def _problem(model: nn.Module, example: Tensor) -> str | None:
    """What a copy of the model raises in channels_last."""
    trial = to_channels_last(copy.deepcopy(model))
    try:
        with torch.no_grad():
            trial(example.contiguous(memory_format=torch.channels_last))
    except RuntimeError as error:
        return first_line(error)
    return None


def _contiguous_output(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output.contiguous()


def _contiguous_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(each.contiguous() if isinstance(each, Tensor) else each for each in inputs)
