"""Traits of a model, so that an impossible order of passes is refused before anything is computed."""

from enum import StrEnum


class Trait(StrEnum):
    """A property of the model that passes require, provide or destroy."""

    FLOAT = "float"
    """Floating-point weights that can be trained, pruned and exported: a live `nn.Module`."""

    SPARSE = "sparse"
    """Single weights are zero, and later trainings keep them zero."""

    INT8 = "int8"
    """Weights and activations carry int8 quantization parameters."""


INITIAL = frozenset({Trait.FLOAT})
"""The traits of a model as its source loads it."""
