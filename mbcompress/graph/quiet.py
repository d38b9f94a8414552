"""Silence for what torch and the libraries around it warn and log of their own internals, and their import settings."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBRARIES = ("torch", "torchao", "onnxscript", "onnx_ir", "neural_compressor")


@contextmanager
def quiet_libraries(level: int = logging.ERROR) -> Iterator[None]:
    """Hide all warnings, and what `LIBRARIES` log below `level`, while the block runs.

    Levels and filters are restored afterwards, and no other logger is touched. Import torch before: it sets the levels
    of its loggers when it is imported.
    """
    known = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in LIBRARIES]
    before = {name: logging.getLogger(name).level for name in {*known, *LIBRARIES}}
    for name in before:
        logging.getLogger(name).setLevel(level)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, own in before.items():
            logging.getLogger(name).setLevel(own)


@contextmanager
def environment_variables(**defaults: str) -> Iterator[None]:
    """Set variables that a library reads on import, unless the user has set them, and unset them afterwards."""
    ours = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
