"""Sides of the training images, which may change from epoch to epoch (progressive resizing)."""

import torch
from torch import nn

from mbcompress.contract.context import Context
from mbcompress.contract.training import TrainingOptions
from mbcompress.errors import MbcompressError, first_line


def scale(options: TrainingOptions, epoch: int) -> float:
    """What the images' sides are multiplied by in an epoch, counted from 1."""
    shares = options.resolutions or (1.0,)
    return shares[(epoch - 1) * len(shares) // options.epochs]


def check_sizes(model: nn.Module, context: Context, options: TrainingOptions, label: str) -> int:
    """The number of outputs, found at every size of image that the training will use; 0 where nobody needs it.

    Raises:
        MbcompressError: the model cannot take one of the sizes.
    """
    example, outputs = context.example(), 0
    if not (options.resolutions or options.mixup):
        return outputs
    for share in sorted({*options.resolutions, 1.0}):
        height, width = (max(1, round(share * side)) for side in example.shape[2:])
        try:
            with torch.no_grad():
                outputs = model(example[:, :, :height, :width]).shape[1]
        except Exception as error:  # a stranger's network may check its sizes in its own way
            raise MbcompressError(
                f"{label}: the model cannot take images of {height}x{width}, which {share:g} in 'resolutions' asks "
                f"for ({first_line(error)}); leave 'resolutions' empty"
            ) from error
    return outputs
