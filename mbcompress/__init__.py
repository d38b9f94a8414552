"""mbcompress: compress MobileNets by recipes of pluggable passes, and report what the exported file really does."""

from mbcompress.api import Result, compress, load
from mbcompress.contract.context import Context
from mbcompress.contract.datasets import Dataset
from mbcompress.contract.events import Run
from mbcompress.contract.hookspecs import hookimpl
from mbcompress.contract.metrics import Measured, Metric, Predictions
from mbcompress.contract.models import ArchitectureSource, ModelSource
from mbcompress.contract.operators import OperatorSet
from mbcompress.contract.options import Component, Options
from mbcompress.contract.passes import Pass
from mbcompress.contract.progress import Progress
from mbcompress.contract.runtimes import ConvolutionCount, Runtime, Session, WeightCount
from mbcompress.contract.teachers import Teacher, Teachers
from mbcompress.contract.training import BaseTrainingConfig, DistillationConfig, TrainingConfig, TrainingPass
from mbcompress.contract.traits import Trait
from mbcompress.contract.zoo import Zoo
from mbcompress.data.splits import Augmentation, Development, Images, Normalization, Splits
from mbcompress.errors import MbcompressError, PassError, RecipeError

__all__ = [
    "ArchitectureSource",
    "Augmentation",
    "BaseTrainingConfig",
    "Component",
    "Context",
    "ConvolutionCount",
    "Dataset",
    "Development",
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
    "Result",
    "Run",
    "Runtime",
    "Session",
    "Splits",
    "Teacher",
    "Teachers",
    "TrainingConfig",
    "TrainingPass",
    "Trait",
    "WeightCount",
    "Zoo",
    "compress",
    "hookimpl",
    "load",
]
