"""Memory layout of a module's 4-D weights; `nn.Module.to` takes `memory_format`, but its type stubs do not know."""

import torch
from torch import nn


def channels_last(model: nn.Module) -> nn.Module:
    """NHWC in memory, in place: about twice as fast to train on x86-64 CPUs."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def contiguous(model: nn.Module) -> nn.Module:
    """NCHW in memory, in place, as exporters expect."""
    return model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]
