"""The built-in passes as classes, with editor completion: `from mbcompress.passes import Prune`.

They are defined in the plugins in `plugins/`; this is the only core module that imports them.
"""

from mbcompress_distill import Distill
from mbcompress_prune import Prune, PruneBlocks, Sensitivity
from mbcompress_quantize import Ptq, Qat
from mbcompress_sparsify import Sparsify
from mbcompress_train import Train
from mbcompress_winograd import Winograd

__all__ = ["Distill", "Prune", "PruneBlocks", "Ptq", "Qat", "Sensitivity", "Sparsify", "Train", "Winograd"]
