"""mbcompress: compress MobileNets by recipes of pluggable passes, and report what the exported file really does."""

from mbcompress.api import compress
from mbcompress.components import (
    Component,
    ConvolutionCount,
    Dataset,
    ModelSource,
    Options,
    Pass,
    Runtime,
    Session,
    Teacher,
)
from mbcompress.data import Augmentation, Development, Images, Normalization, Splits
from mbcompress.errors import MbcompressError, RecipeError
from mbcompress.hookspecs import hookimpl
from mbcompress.progress import Progress
from mbcompress.result import Result
from mbcompress.training_options import TrainingOptions
from mbcompress.traits import Trait

__all__ = [
    "Augmentation",
    "Component",
    "ConvolutionCount",
    "Dataset",
    "Development",
    "Images",
    "MbcompressError",
    "ModelSource",
    "Normalization",
    "Options",
    "Pass",
    "Progress",
    "RecipeError",
    "Result",
    "Runtime",
    "Session",
    "Splits",
    "Teacher",
    "TrainingOptions",
    "Trait",
    "compress",
    "hookimpl",
]
