"""mbcompress: compress MobileNets by recipes of pluggable passes, and report what the exported file really does."""

from mbcompress.api import compress
from mbcompress.components import (
    Component,
    ConvolutionCount,
    Dataset,
    Measured,
    Metric,
    ModelSource,
    OperatorSet,
    Options,
    Pass,
    Predictions,
    Runtime,
    Session,
    Teacher,
    Teachers,
    WeightCount,
)
from mbcompress.context import Context
from mbcompress.data import Augmentation, Development, Images, Normalization, Splits
from mbcompress.errors import MbcompressError, PassError, RecipeError
from mbcompress.hookspecs import hookimpl
from mbcompress.lifecycle import Run
from mbcompress.progress import Progress
from mbcompress.result import Result
from mbcompress.storage.restoring import load
from mbcompress.training_options import DistillationOptions, TrainingOptions
from mbcompress.traits import Trait

__all__ = [
    "Augmentation",
    "Component",
    "Context",
    "ConvolutionCount",
    "Dataset",
    "Development",
    "DistillationOptions",
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
    "Result",
    "Run",
    "Runtime",
    "Session",
    "Splits",
    "Teacher",
    "Teachers",
    "TrainingOptions",
    "Trait",
    "WeightCount",
    "compress",
    "hookimpl",
    "load",
]
