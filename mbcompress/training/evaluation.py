"""Accuracy of a live model on a split in memory. The figures of a report come from the exported file instead."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mbcompress.data import Images, Normalization
from mbcompress.training.batches import evaluation_batches


@dataclass(frozen=True, order=True)
class Score:
    """Scores compare by accuracy, then by lower loss."""

    correct: int
    negative_loss: float
    count: int

    @property
    def top1(self) -> float:
        """Share of images whose largest logit is the label's, 0 to 1."""
        return self.correct / self.count


@torch.no_grad()
def evaluate(model: nn.Module, images: Images, normalization: Normalization, device: torch.device) -> Score:
    """Top-1 and mean cross-entropy of `model` in eval mode; its mode is restored."""
    training = model.training
    model.eval()
    correct, loss = 0, 0.0
    for batch, labels in evaluation_batches(images, normalization, device):
        logits = model(batch).float()
        correct += int(((logits.argmax(1) == labels) & logits.isfinite().all(1)).sum())
        loss += float(cross_entropy(logits, labels, reduction="sum"))
    model.train(training)
    return Score(correct, -loss / len(images), len(images))
