"""Running statistics of BatchNorm, estimated anew after the weights before it have changed."""

import numpy as np
from torch import nn
from torch.optim.swa_utils import update_bn

from mbcompress.context import Context
from mbcompress.training.batches import evaluation_batches

ENOUGH = 4096  # images: the mean of thousands moves no more


def estimate_statistics(model: nn.Module, context: Context, images: int = ENOUGH) -> None:
    """Set every BatchNorm's mean and variance to those over training images, in place; no label is looked at."""
    few = context.data.train.take(np.arange(min(images, len(context.data.train))))
    update_bn(evaluation_batches(few, context.data.normalization, context.device), model, context.device)
