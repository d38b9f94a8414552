"""Evaluate an `nn.Module` on a split in memory. Test accuracy in reports comes from exported files instead."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mbcompress.contract.process_group import ProcessGroup
from mbcompress.data.loader import evaluation_batches
from mbcompress.data.splits import Images, Normalization


@dataclass(frozen=True, order=True)
class Score:
    """Accuracy and loss; scores compare by accuracy, then by lower loss."""

    correct: int
    negative_loss: float
    count: int

    @property
    def top1(self) -> float:
        """Top-1 accuracy, 0 to 1."""
        return self.correct / self.count


@torch.no_grad()
def evaluate(
    model: nn.Module,
    images: Images,
    normalization: Normalization,
    device: torch.device,
    process_group: ProcessGroup | None = None,
) -> Score:
    """Return top-1 and mean cross-entropy of `model` in eval mode; its mode is restored.

    Args:
        process_group: the processes that share the images; all get the same score. None for a single process.
    """
    process_group = process_group or ProcessGroup()
    training = model.training
    model.eval()
    correct, loss = 0, 0.0
    for batch, labels in evaluation_batches(_share(images, process_group), normalization, device):
        logits = model(batch).float()
        correct += _count_correct(logits, labels)
        loss += float(cross_entropy(logits, labels, reduction="sum"))
    model.train(training)
    sums: Tensor = process_group.all_reduce(torch.tensor([correct, loss], dtype=torch.float64))
    return Score(int(sums[0]), -float(sums[1]) / len(images), len(images))


def score_of(logits: Tensor, labels: Tensor) -> Score:
    """Return the score of precomputed logits (N, K) for labels (N,)."""
    logits = logits.float()
    return Score(_count_correct(logits, labels), -float(cross_entropy(logits, labels)), len(labels))


def _count_correct(logits: Tensor, labels: Tensor) -> int:
    return int(((logits.argmax(1) == labels) & logits.isfinite().all(1)).sum())


def _share(images: Images, process_group: ProcessGroup) -> Images:
    index, count = process_group.shard
    part = slice(index * len(images) // count, (index + 1) * len(images) // count)
    return Images(images.pixels[part], images.labels[part])
