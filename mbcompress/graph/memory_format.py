"""Convert memory formats, copy models, and create random input to compare models."""

import copy
import warnings
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def to_channels_last(model: nn.Module) -> nn.Module:
    """Convert 4-D weights to NHWC in place: training is about twice as fast on x86-64 CPUs."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def to_contiguous(model: nn.Module) -> nn.Module:
    """Convert 4-D weights to NCHW in place, as exporters expect."""
    return model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]


def copy_model(model: M) -> M:
    """Return a deep copy, without torch's warnings about copying exported graphs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return copy.deepcopy(model)


def prepare_for_export(model: nn.Module) -> nn.Module:
    """Return a contiguous (NCHW) copy on the CPU in eval mode."""
    return to_contiguous(copy_model(model).cpu().eval())


def noise(shape: Sequence[int]) -> Tensor:
    """Return standard normal random numbers with a fixed seed: float32 on the CPU."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))
