"""Call the lifecycle hooks of a run; errors in a plugin do not affect the others."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mbcompress.errors import MbcompressError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mbcompress.contract.events import Listener, Run
    from mbcompress.contract.progress import Progress


class Notifier:
    """Calls the listeners of one run; if one raises, progress shows the error and the run continues.

    Args:
        listeners: origin and function of each listener, by hook.
        run: passed to every listener.
        progress: shows errors and the output of listeners.
    """

    def __init__(
        self, listeners: Mapping[str, Sequence[tuple[object, Listener]]], run: Run, progress: Progress
    ) -> None:
        self.listeners = listeners
        self.run = run
        self.progress = progress

    @contextmanager
    def running(self) -> Iterator[None]:
        """Report the start of the run, and its failure if the block raises, including interrupts."""
        self._call("mbcompress_run_started")
        try:
            yield
        except BaseException as error:
            self._call("mbcompress_run_failed", error=error)
            raise

    def pass_finished(self, index: int, name: str, metrics: Mapping[str, Any], seconds: float) -> None:
        """Report that a pass is finished and its model evaluated; `index` is 1-based."""
        self._call("mbcompress_pass_finished", index=index, name=name, metrics=dict(metrics), seconds=seconds)

    def finished(self, report: Mapping[str, Any], directory: Path) -> None:
        """Report that the run directory is complete and has its final name."""
        # a copy, so that listeners cannot change the caller's report
        self._call("mbcompress_run_finished", report=copy.deepcopy(dict(report)), directory=directory)

    def _call(self, hook: str, **arguments: object) -> None:
        for origin, listener in self.listeners.get(hook, ()):
            try:
                with self.progress.attributed(str(origin)):
                    listener(run=self.run, **arguments)
            except (Exception, SystemExit) as error:  # a plugin's code may raise anything
                plain = isinstance(error, MbcompressError)
                reason = str(error) if plain else f"{type(error).__name__}: {first_line(error)}"
                self.progress.say(f"{origin}: {hook} failed, continuing without it: {reason}")
