"""The training loop that every pass with a loss shares. Imports torch: a plugin imports it inside its verbs."""

from mbcompress.data.loader import Batch, batches_per_epoch, evaluation_batches
from mbcompress.training.batchnorm import update_bn
from mbcompress.training.callbacks import Constraint, KeepZeros, zero_masks
from mbcompress.training.evaluation import Score, evaluate
from mbcompress.training.history import History
from mbcompress.training.loop import fit
from mbcompress.training.objectives import Distillation, Loss, label_loss, task_loss

__all__ = [
    "Batch",
    "Constraint",
    "Distillation",
    "History",
    "KeepZeros",
    "Loss",
    "Score",
    "batches_per_epoch",
    "evaluate",
    "evaluation_batches",
    "fit",
    "label_loss",
    "task_loss",
    "update_bn",
    "zero_masks",
]
