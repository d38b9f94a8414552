"""Running statistics of BatchNorm, estimated anew after the weights before it have changed."""

import numpy as np
from torch import nn
from torch.optim.swa_utils import update_bn

from mbcompress.context import Context
from mbcompress.training.batches import EVALUATION_BATCH, evaluation_batches

ENOUGH = 4096  # images: the mean of thousands moves no more


def estimate_statistics(model: nn.Module, context: Context, images: int = ENOUGH) -> None:
    """Set every BatchNorm's mean and variance to those over training images, in place; no label is looked at.

    Args:
        images: how many at most; whole batches only, each of which counts as much as the others.
    """
    count = min(images, len(context.data.train))
    few = context.data.train.take(np.arange(count - count % EVALUATION_BATCH or count))
    update_bn(evaluation_batches(few, context.data.normalization, context.device), model, context.device)
