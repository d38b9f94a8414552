"""Models and datasets from callables in the user's Python modules."""

from mbcompress import Dataset, ModelSource, hookimpl

from .data import PythonData
from .model import PythonModel


@hookimpl
def mbcompress_models() -> list[type[ModelSource]]:
    return [PythonModel]


@hookimpl
def mbcompress_datasets() -> list[type[Dataset]]:
    return [PythonData]
