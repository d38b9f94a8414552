"""Compress CNNs with recipes of pluggable passes, and measure the exported files.

Run recipes
    compress        apply a recipe to a model, export it and measure it
    load            load the model of a run directory or of one of its passes
    Result          what `compress` returns: model, report, paths
    Images, Splits, Normalization, Augmentation
                    your own data in memory
    mbcompress.passes
                    the built-in passes as classes: Prune, Distill, Qat, …
    MbcompressError, RecipeError, PassError
                    bad input; a mistake in a recipe; a bug in a pass

Write plugins
    hookimpl        marks the functions that return your classes
    Pass            changes a model; its fields are its options
    Context         what a pass gets: data, baseline, device, metrics, `fit`
    TrainingPass, TrainingConfig, BaseTrainingConfig, DistillationConfig
                    a pass that trains, and its options
    Options         a group of options
    Trait           what passes require of a model and provide
    Progress        messages and progress bars
    Unsupported, report_unsupported
                    the option for layers that a pass cannot handle
    ModelSource, ArchitectureSource, Zoo, load_weights
                    models, architectures with bundled weights, weights files
    Dataset         labeled images in four splits
    Runtime, Session, ConvolutionCount, WeightCount
                    an exported format and the engine that runs it
    Metric, Predictions, Measured
                    a figure besides accuracy
    OperatorSet     custom torch operators
    Run             what the hooks of a run receive
    Registry, discover
                    the installed plugins

Modules: `mbcompress.data`, `.errors`, `.graph`, `.measure`, `.report`, `.testing` and `.training` have functions for
plugins. docs/plugins.md is the guide, docs/api.md the reference. `import mbcompress` imports none of this: each name is
imported on first use, and torch only when a model is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mbcompress.api import compress
    from mbcompress.checkpoint.loading import load
    from mbcompress.contract.context import Context
    from mbcompress.contract.datasets import Dataset
    from mbcompress.contract.events import Run
    from mbcompress.contract.hookspecs import hookimpl
    from mbcompress.contract.metrics import Measured, Metric, Predictions
    from mbcompress.contract.models import ArchitectureSource, ModelSource
    from mbcompress.contract.operators import OperatorSet
    from mbcompress.contract.options import Options
    from mbcompress.contract.passes import Pass
    from mbcompress.contract.progress import Progress
    from mbcompress.contract.runtimes import ConvolutionCount, Runtime, Session, WeightCount
    from mbcompress.contract.training import BaseTrainingConfig, DistillationConfig, TrainingConfig, TrainingPass
    from mbcompress.contract.traits import Trait
    from mbcompress.contract.unsupported import Unsupported, report_unsupported
    from mbcompress.contract.weights import load_weights
    from mbcompress.contract.zoo import Zoo
    from mbcompress.data.splits import Augmentation, Images, Normalization, Splits
    from mbcompress.errors import MbcompressError, PassError, RecipeError
    from mbcompress.pipeline.launch import Result
    from mbcompress.registry.discovery import discover
    from mbcompress.registry.registry import Registry

    __all__ = [  # for type checkers and docs/api.md alone: with it, help(mbcompress) would show every class in full
        "ArchitectureSource",
        "Augmentation",
        "BaseTrainingConfig",
        "Context",
        "ConvolutionCount",
        "Dataset",
        "DistillationConfig",
        "Images",
        "MbcompressError",
        "Measured",
        "Metric",
        "ModelSource",
        "Normalization",
        "OperatorSet",
        "Options",
        "Pass",
        "PassError",
        "Predictions",
        "Progress",
        "RecipeError",
        "Registry",
        "Result",
        "Run",
        "Runtime",
        "Session",
        "Splits",
        "TrainingConfig",
        "TrainingPass",
        "Trait",
        "Unsupported",
        "WeightCount",
        "Zoo",
        "compress",
        "discover",
        "hookimpl",
        "load",
        "load_weights",
        "report_unsupported",
    ]

_NAMES = {
    "api": "compress",
    "checkpoint.loading": "load",
    "contract.context": "Context",
    "contract.datasets": "Dataset",
    "contract.events": "Run",
    "contract.hookspecs": "hookimpl",
    "contract.metrics": "Measured Metric Predictions",
    "contract.models": "ArchitectureSource ModelSource",
    "contract.operators": "OperatorSet",
    "contract.options": "Options",
    "contract.passes": "Pass",
    "contract.progress": "Progress",
    "contract.runtimes": "ConvolutionCount Runtime Session WeightCount",
    "contract.training": "BaseTrainingConfig DistillationConfig TrainingConfig TrainingPass",
    "contract.traits": "Trait",
    "contract.unsupported": "Unsupported report_unsupported",
    "contract.weights": "load_weights",
    "contract.zoo": "Zoo",
    "data.splits": "Augmentation Images Normalization Splits",
    "errors": "MbcompressError PassError RecipeError",
    "pipeline.launch": "Result",
    "registry.discovery": "discover",
    "registry.registry": "Registry",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(f"{__name__}.{_MODULES[name]}"), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
