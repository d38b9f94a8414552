"""Count parameters and multiply-accumulates (MACs) of a model."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(model: nn.Module, example: Tensor) -> int:
    """Count the MACs of convolutions and linear layers for `example`, as the MobileNet papers do.

    Additions, activations, normalization and pooling are not counted.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(example)
    return int(counter.get_total_flops()) // 2  # one MAC is two FLOPs


def count_parameters(model: nn.Module) -> int:
    """Count weights, biases and BatchNorm's scale and shift, without running statistics.

    Int8 weights of a quantized graph, which are buffers, are counted; scales and zero points are not.
    """
    quantized = sum(buffer.numel() for buffer in model.buffers() if buffer.dtype == torch.int8)
    return quantized + sum(parameter.numel() for parameter in model.parameters())
