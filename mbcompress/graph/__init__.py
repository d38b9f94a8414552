"""Modules and `torch.fx` graphs of ATen operators: export, fuse, canonicalize, run, count.

In: an `nn.Module` or a `torch.fx` graph. Out: an equivalent module or graph, or a count. May import: `contract`.

Importing this package does not import torch: names are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mbcompress.graph.canonicalization import canonicalize
    from mbcompress.graph.count import count_macs, count_parameters
    from mbcompress.graph.export import ExportedGraph, export_graph, export_program, quiet_export, remove_unused
    from mbcompress.graph.fuse import fold_batch_norms, fold_weights, fuse_conv_bn
    from mbcompress.graph.hard_sigmoid import decompose_hard_sigmoid
    from mbcompress.graph.int8 import signed_int8_graph
    from mbcompress.graph.interpreter import run_with_hook
    from mbcompress.graph.memory_format import copy_model, noise, prepare_for_export, to_channels_last, to_contiguous
    from mbcompress.graph.nodes import clamp_bounds, get_tensor, node_args
    from mbcompress.graph.operators import registered_operators
    from mbcompress.graph.quiet import environment_variables, quiet_libraries

__all__ = [
    "ExportedGraph",
    "canonicalize",
    "clamp_bounds",
    "copy_model",
    "count_macs",
    "count_parameters",
    "decompose_hard_sigmoid",
    "environment_variables",
    "export_graph",
    "export_program",
    "fold_batch_norms",
    "fold_weights",
    "fuse_conv_bn",
    "get_tensor",
    "node_args",
    "noise",
    "prepare_for_export",
    "quiet_export",
    "quiet_libraries",
    "registered_operators",
    "remove_unused",
    "run_with_hook",
    "signed_int8_graph",
    "to_channels_last",
    "to_contiguous",
]

_NAMES = {
    "canonicalization": "canonicalize",
    "count": "count_macs count_parameters",
    "export": "ExportedGraph export_graph export_program quiet_export remove_unused",
    "fuse": "fold_batch_norms fold_weights fuse_conv_bn",
    "hard_sigmoid": "decompose_hard_sigmoid",
    "int8": "signed_int8_graph",
    "interpreter": "run_with_hook",
    "memory_format": "copy_model noise prepare_for_export to_channels_last to_contiguous",
    "nodes": "clamp_bounds get_tensor node_args",
    "operators": "registered_operators",
    "quiet": "environment_variables quiet_libraries",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
