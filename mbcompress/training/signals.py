"""Ctrl-C during a training: the optimizer step ends, a checkpoint is written, and only then the signal is handled."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Self

from mbcompress.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable


class DeferredSignals:
    """Defers SIGINT and SIGTERM while the block runs, where the program handles them by a Python function.

    A second signal is handled at once. Only the main thread can do this; in any other, nothing is deferred.

    Args:
        say: is told of the first signal.

    Attributes:
        pending: number of the signal that has arrived, 0 for none.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.pending = 0
        self._say = say
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
            self._handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
            for number in self._handlers:
                signal.signal(number, self._defer)
        return self

    def __exit__(self, *_: object) -> None:
        if self.pending:
            self.deliver()
        self._restore()

    def deliver(self) -> None:
        """Have the pending signal handled, which raises KeyboardInterrupt unless the program's handler returns."""
        handlers, number, self.pending = dict(self._handlers), self.pending or signal.SIGINT, 0
        self._restore()
        if number in handlers:
            handlers[number](number, None)
        raise Interrupted(number)

    def _defer(self, number: int, frame: object) -> None:
        if self.pending:
            self.pending = number
            self.deliver()
        self.pending = number
        self._say("interrupted: stops after this optimizer step; once more stops at once")

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
