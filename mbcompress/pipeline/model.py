"""Load the model of a run and prepare it for training."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mbcompress.data.seed import fork_rng
from mbcompress.errors import MbcompressError, brief, first_line
from mbcompress.graph import to_channels_last

if TYPE_CHECKING:
    from mbcompress.contract.models import ModelSource


def load_model(source: ModelSource | None, module: nn.Module | None) -> nn.Module:
    """Return a copy of the caller's module, or of the source's model, in eval mode.

    Raises:
        MbcompressError: the model cannot be copied.
    """
    if module is None:
        assert source is not None  # a plan has one of the two
        module = source.load()
    try:
        return copy.deepcopy(module).eval()
    except Exception as error:  # a user's module may raise anything
        raise MbcompressError(
            f"model: cannot be copied ({type(error).__name__}: {brief(first_line(error))}); every attribute must be "
            "copyable; for example, replace torch.nn.utils.weight_norm with torch.nn.utils.parametrizations.weight_norm"
        ) from error


def count_outputs(model: nn.Module, example: Tensor) -> int:
    """Return the number of logits per image, by a forward pass on the CPU.

    Args:
        example: (2, C, H, W) float32.

    Raises:
        MbcompressError: the model cannot run, or does not return logits.
    """
    try:
        with torch.no_grad():
            logits = model.cpu()(example)
    except Exception as error:  # a user's module may raise anything
        shape = tuple(example.shape[1:])
        raise MbcompressError(f"model: cannot run on images of shape {shape}: {first_line(error)}") from error
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != 2:
        shown = str(tuple(logits.shape)) if isinstance(logits, Tensor) else type(logits).__name__
        raise MbcompressError(f"model: must return logits of shape (N, num_classes), got {shown}")
    return int(logits.shape[1])


def prepare_model(model: nn.Module, example: Tensor) -> None:
    """Unfreeze a fully frozen model and make it work with channels_last memory format, in place.

    A partially frozen model stays as it is. Training uses channels_last, in which `view` on a feature map fails; such a
    model gets hooks that make feature maps contiguous (NCHW).

    Args:
        model: in eval mode, on the CPU; runs on `example`.
        example: (N, C, H, W) float32, N at least 2.

    Raises:
        MbcompressError: the model cannot run in channels_last even with these hooks.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        model.requires_grad_(True)
    if _channels_last_error(model, example) is None:
        return
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(_contiguous_output)
    model.register_forward_pre_hook(_contiguous_input)
    if error := _channels_last_error(model, example):
        raise MbcompressError(
            f"model: cannot run in channels_last memory format, which training uses: {error}; "
            "use reshape or flatten instead of view"
        )


def check_training_mode(model: nn.Module, example: Tensor, label: str) -> None:
    """Check by a forward pass of a copy that the model returns only logits in training mode.

    Args:
        example: (N, C, H, W) float32 on the CPU, N at least 2.
        label: prefix of the error message.

    Raises:
        MbcompressError: the model returns something else.
    """
    with fork_rng(()), torch.no_grad():
        output = copy.deepcopy(model).train()(example)
    if not isinstance(output, Tensor):
        raise MbcompressError(
            f"{label}: in training mode the model returns {type(output).__name__} instead of logits, as models with "
            "auxiliary classifiers do; build it without them (torchvision: 'aux_logits: false')"
        )


def _channels_last_error(model: nn.Module, example: Tensor) -> str | None:
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
