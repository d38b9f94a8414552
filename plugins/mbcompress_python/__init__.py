"""Models and data from the user's own Python modules, by the name of a callable."""

from mbcompress import Dataset, ModelSource, hookimpl

from .data import PythonData
from .model import PythonModel


@hookimpl
def mbcompress_models() -> list[type[ModelSource]]:
    return [PythonModel]


@hookimpl
def mbcompress_datasets() -> list[type[Dataset]]:
    return [PythonData]
