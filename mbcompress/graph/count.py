"""Parameters and multiply-accumulate operations of a model."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(model: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of convolutions and linear layers for `example`, as the MobileNet papers count them.

    Additions, activations, normalisation and pooling are not counted.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(example)
    return int(counter.get_total_flops()) // 2  # a multiply-accumulate is two floating-point operations


def count_parameters(model: nn.Module) -> int:
    """Learned numbers: weights, biases and BatchNorm's scale and shift, not its running statistics.

    A quantized graph holds its weights as int8 buffers, which count; its scales and zero points do not.
    """
    quantized = sum(buffer.numel() for buffer in model.buffers() if buffer.dtype == torch.int8)
    return quantized + sum(parameter.numel() for parameter in model.parameters())
