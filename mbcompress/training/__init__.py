"""Training: the shared training loop, with its objectives and callbacks. Imports torch.

In: a model, a context with images, a `TrainingConfig`. Out: the trained model and its `History`. May import:
`contract`, `data`, `graph`, and `report` for pictures. Plugins import this room inside `apply`, not at module level.
"""

from mbcompress.data.loader import Batch, batches_per_epoch, evaluation_batches
from mbcompress.training.batchnorm import update_bn
from mbcompress.training.callbacks import Callback, KeepZeros, TrainerState, cubic_sparsity, zero_masks
from mbcompress.training.evaluation import Score, evaluate
from mbcompress.training.history import History
from mbcompress.training.objectives import CrossEntropy, Distillation, Objective
from mbcompress.training.trainer import fit

__all__ = [
    "Batch",
    "Callback",
    "CrossEntropy",
    "Distillation",
    "History",
    "KeepZeros",
    "Objective",
    "Score",
    "TrainerState",
    "batches_per_epoch",
    "cubic_sparsity",
    "evaluate",
    "evaluation_batches",
    "fit",
    "update_bn",
    "zero_masks",
]
