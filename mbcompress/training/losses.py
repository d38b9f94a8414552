"""Losses over logits: labels, and a teacher's softened outputs."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from mbcompress.training_options import TrainingOptions

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(images (N, C, H, W), logits (N, K), labels (N,) int64, or (N, K) float32 shares of the classes) -> scalar loss."""


def label_loss(options: TrainingOptions) -> Loss:
    """Cross-entropy against the labels, with the options' label smoothing."""

    def loss(images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, label_smoothing=options.label_smoothing)

    return loss


def distillation_loss(teacher: nn.Module, temperature: float, alpha: float, options: TrainingOptions) -> Loss:
    """Alpha T^2 KL(teacher / T || student / T) + (1 - alpha) cross-entropy (Hinton et al. 2015, section 2).

    T^2 keeps the gradients' size independent of the temperature. `teacher` is frozen and in eval mode.
    """
    against_labels = label_loss(options)

    def loss(images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            targets = log_softmax(teacher(images).float() / temperature, dim=1)
        student = log_softmax(logits.float() / temperature, dim=1)
        soft = kl_div(student, targets, reduction="batchmean", log_target=True)
        return alpha * temperature**2 * soft + (1 - alpha) * against_labels(images, logits, labels)

    return loss
