"""Handle SIGINT and SIGTERM while a command runs."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mbcompress.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handling_signals(handler: Any) -> Iterator[None]:
    """Install `handler` for SIGINT and SIGTERM while the block runs.

    Ignored signals, such as SIGINT in background jobs, stay ignored. Outside the main thread, no handlers are
    installed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: own for number, own in before.items() if own is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, own in before.items():
            signal.signal(number, own)


def raise_interrupted(number: int, frame: FrameType | None) -> None:
    """Signal handler.

    Raises:
        Interrupted: always.
    """
    raise Interrupted(number)
