"""Handle Ctrl-C during training after the current optimizer step, when a checkpoint has been saved."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Self

from mbcompress.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable


class DeferredSignals:
    """Defers SIGINT and SIGTERM while the block runs, if they have Python handlers.

    A second signal is handled immediately. Outside the main thread, nothing is deferred.

    Args:
        say: called with a message for the first signal.

    Attributes:
        pending: number of the received signal; 0 for none.
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
        """Call the original handler of the pending signal, then raise Interrupted if it returns."""
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
        self._say("interrupted: stopping after this optimizer step; interrupt again to stop immediately")

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
