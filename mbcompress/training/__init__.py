"""The training loop that every pass with a loss shares. Imports torch: a plugin imports it inside its verbs."""

from mbcompress.training.batches import batches_per_epoch
from mbcompress.training.evaluation import Score, evaluate
from mbcompress.training.loop import History, fit
from mbcompress.training.losses import Loss, distillation_loss, label_loss
from mbcompress.training.normalization import estimate_statistics

__all__ = [
    "History",
    "Loss",
    "Score",
    "batches_per_epoch",
    "distillation_loss",
    "estimate_statistics",
    "evaluate",
    "fit",
    "label_loss",
]
