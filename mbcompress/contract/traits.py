"""Traits of a model, by which an invalid order of passes is rejected before anything is computed."""

from enum import StrEnum


class Trait(StrEnum):
    """A property of a model that passes require, provide or destroy."""

    FLOAT = "float"
    """Floating-point weights that can be trained, pruned and exported."""

    SPARSE = "sparse"
    """Individual weights are zero, and later training keeps them zero."""

    INT8 = "int8"
    """Weights and activations carry int8 quantization parameters."""


INITIAL = frozenset({Trait.FLOAT})
"""The traits of a freshly loaded model."""
