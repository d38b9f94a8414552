"""Structured pruning of channels and residual blocks.

torch-pruning handles the dependencies between layers (residual adds, depthwise convolutions, squeeze-and-excitation):
Fang et al., "DepGraph: Towards Any Structural Pruning", 2023, https://arxiv.org/abs/2301.12900. L1 criterion: Li et
al., "Pruning Filters for Efficient ConvNets", 2017, https://arxiv.org/abs/1608.08710. Taylor criterion: Molchanov et
al., "Importance Estimation for Neural Network Pruning", 2019, https://arxiv.org/abs/1906.10771.
"""

from mbcompress import Pass, hookimpl

from .channel_passes import Prune, Sensitivity
from .depth_pass import PruneBlocks

__all__ = ["Prune", "PruneBlocks", "Sensitivity"]


@hookimpl
def mbcompress_passes() -> list[type[Pass]]:
    return [Prune, PruneBlocks, Sensitivity]
