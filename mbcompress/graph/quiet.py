"""Silence for what torch and the libraries around it warn and log of their own internals; taken back at the end."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBRARIES = ("torch", "torchao", "onnxscript", "onnx_ir", "neural_compressor")


@contextmanager
def quiet_libraries(level: int = logging.ERROR) -> Iterator[None]:
    """Hide all warnings, and what `LIBRARIES` log below `level`, while the block runs.

    Levels and filters are as before afterwards, and no other logger is touched. Import torch before: it sets the levels
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
