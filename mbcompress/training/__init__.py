"""The training loop that every pass with a loss shares. Imports torch: a plugin imports it inside its verbs."""

from mbcompress.training.batches import Batch, batches_per_epoch, evaluation_batches
from mbcompress.training.constraints import Constraint, KeepZeros, zero_masks
from mbcompress.training.curve import History
from mbcompress.training.evaluation import Score, evaluate
from mbcompress.training.loop import fit
from mbcompress.training.losses import Distillation, Loss, label_loss, task_loss
from mbcompress.training.normalization import estimate_statistics

__all__ = [
    "Batch",
    "Constraint",
    "Distillation",
    "History",
    "KeepZeros",
    "Loss",
    "Score",
    "batches_per_epoch",
    "estimate_statistics",
    "evaluate",
    "evaluation_batches",
    "fit",
    "label_loss",
    "task_loss",
    "zero_masks",
]
