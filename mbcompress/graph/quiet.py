"""Silence warnings and logs of torch and related libraries, and set environment variables for imports."""

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
    """Hide all warnings, and logs of `LIBRARIES` below `level`, while the block runs.

    Levels and filters are restored afterwards; other loggers are not changed. Import torch first, because it sets its
    log levels on import.
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
    """Set environment variables while the block runs, unless the user has set them."""
    ours = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
