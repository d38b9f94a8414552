"""Re-estimate the running statistics of BatchNorm after weights have changed."""

import numpy as np
from torch import nn
from torch.optim import swa_utils

from mbcompress.contract.context import Context
from mbcompress.data.loader import EVALUATION_BATCH, training_batches

ENOUGH = 4096  # images; more do not change the statistics noticeably


def update_bn(model: nn.Module, context: Context, images: int = ENOUGH) -> None:
    """Recompute the running mean and variance of every BatchNorm layer from training images, in place.

    Images are augmented as in training, because augmentation changes the statistics: without the black borders of
    random crops, the accuracy of an unpruned MobileNetV3-small on CIFAR-10 drops from 87.4 % to 84.2 %. Labels are not
    used.

    Args:
        images: maximum number of images, rounded down to whole batches; all batches have equal weight.
    """
    data = context.data
    count = min(images, len(data.train))
    few = data.train.take(np.arange(count - count % EVALUATION_BATCH or count))
    batches = training_batches(
        few, data.normalization, data.augmentation, EVALUATION_BATCH, context.device, seed=context.seed, epoch=0
    )
    swa_utils.update_bn((batch.images for batch in batches), model, context.device)
