"""Models and data that live in somebody's Python modules, by the name of a callable."""

from mbcompress.components import Dataset, ModelSource
from mbcompress.hookspecs import hookimpl

from .data import PythonData
from .model import PythonModel


@hookimpl
def mbcompress_models() -> list[type[ModelSource]]:
    return [PythonModel]


@hookimpl
def mbcompress_datasets() -> list[type[Dataset]]:
    return [PythonData]
