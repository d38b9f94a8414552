"""Who is told how a run goes: a run's identity, and the notifier that tells every listener, each by itself."""

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
    """Tells the listeners of one run. One that raises is named in a line of progress, and the run goes on.

    `listeners` has, for each hook, where each listener comes from and what to call.
    """

    def __init__(
        self, listeners: Mapping[str, Sequence[tuple[object, Listener]]], run: Run, progress: Progress
    ) -> None:
        self.listeners = listeners
        self.run = run
        self.progress = progress

    @contextmanager
    def running(self) -> Iterator[None]:
        """The run starts with the block, and has failed if the block raises anything, an interrupt included."""
        self._tell("mbcompress_run_started")
        try:
            yield
        except BaseException as error:
            self._tell("mbcompress_run_failed", error=error)
            raise

    def pass_finished(self, index: int, name: str, metrics: Mapping[str, Any], seconds: float) -> None:
        """A pass has given its model, which has been evaluated; `index` counts passes from 1."""
        self._tell("mbcompress_pass_finished", index=index, name=name, metrics=dict(metrics), seconds=seconds)

    def finished(self, report: Mapping[str, Any], directory: Path) -> None:
        """Everything is written, and the run directory has its name."""
        # a copy: what listeners do to it must not change what the caller of the run gets
        self._tell("mbcompress_run_finished", report=copy.deepcopy(dict(report)), directory=directory)

    def _tell(self, hook: str, **facts: object) -> None:
        for origin, listen in self.listeners.get(hook, ()):
            try:
                with self.progress.attributed(str(origin)):
                    listen(run=self.run, **facts)
            except (Exception, SystemExit) as error:  # a stranger's code may raise anything
                ours = isinstance(error, MbcompressError)
                reason = str(error) if ours else f"{type(error).__name__}: {first_line(error)}"
                self.progress.say(f"{origin}: {hook} failed, the run goes on without it: {reason}")
