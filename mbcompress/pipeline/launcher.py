"""Processes that `accelerate launch` or `torchrun` has started to run one recipe together.

Rank 0 is the main process: it alone decides what comes from the cache, writes, measures and reports. The others compute
its trainings with it. The process group is accelerate's; neither it nor torch is imported for one process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from mbcompress.errors import Interrupted, MbcompressError, ProcessLostError
from mbcompress.pipeline.interruption import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mbcompress.training.distributed import AccelerateGroup


T = TypeVar("T")

LAUNCHERS = (("RANK", "WORLD_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"))
"""Environment variables by which launchers tell a process its index and how many there are."""

LONGEST_WAIT = timedelta(days=7)
"""The others wait while main waits for the cache or measures; a process that dies is noticed at once all the same."""

PATIENCE_SECONDS = 5.0
"""How long another process waits before it tells its error, which mostly is main's too."""


def launched() -> tuple[int, int]:
    """Index of this process and the count of those that a launcher has started together; (0, 1) without one.

    Raises:
        MbcompressError: the environment variables of a launcher hold no such numbers.
    """
    for rank, size in LAUNCHERS:
        texts = os.environ.get(rank), os.environ.get(size)
        if None in texts:
            continue
        try:
            index, count = (int(text or "") for text in texts)
            if not 0 <= index < count:
                raise ValueError
        except ValueError:
            raise MbcompressError(
                f"{rank}, {size}: must be the number of a process and how many there are, as a launcher sets them, "
                f"got {texts[0]!r} and {texts[1]!r}"
            ) from None
        if count > 1:
            return index, count
    return 0, 1


def left_alone() -> bool:
    """Whether accelerate was to start several processes on the CPU and has started one: without MPI it never does."""
    by_accelerate = os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_ADDR" in os.environ
    return by_accelerate and launched()[1] == 1


def is_main() -> bool:
    """Whether this process speaks: the only one, or the first that a launcher has started."""
    return launched()[0] == 0


def join(device: str) -> AccelerateGroup:
    """Meet the other processes that the launcher has started; each computes on `device` of its own.

    Args:
        device: 'auto', 'cpu' or 'cuda'.

    Raises:
        MbcompressError: accelerate is missing, or knows of another number of processes; `device` cannot be shared.
    """
    index, count = launched()
    if device not in ("auto", "cpu", "cuda"):
        raise MbcompressError(f"--device {device}: cannot be used by {count} processes; choose auto, cpu or cuda")
    try:
        from accelerate import PartialState
    except ImportError:
        raise MbcompressError(
            f"accelerate: is not installed, and {count} processes need it to train together; "
            "pip install 'mbcompress[distributed]'"
        ) from None
    import torch

    from mbcompress.training.device import choose
    from mbcompress.training.distributed import AccelerateGroup

    cpu = choose(device).type != "cuda"
    ours = not torch.distributed.is_initialized()
    with _ended_by_signals(wanted=index > 0):
        state = PartialState(cpu=cpu, timeout=LONGEST_WAIT)
    if (state.process_index, state.num_processes) != (index, count):
        raise MbcompressError(
            f"accelerate: counts {state.num_processes} processes where the launcher started {count}; "
            "on the CPU, a program of your own must begin with Accelerator(cpu=True)"
        )
    if ours:
        import atexit

        atexit.register(state.destroy_process_group)
    return AccelerateGroup(index, count, state.device)


def _disband(index: int) -> None:
    """Part with the other processes well before Python ends: a thread of gloo's that is late would abort it then."""
    from accelerate import PartialState

    if index:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    PartialState().destroy_process_group()


@contextmanager
def _ended_by_signals(*, wanted: bool) -> Iterator[None]:
    """Signals end the process at once while it waits in code that hears no handler of Python's."""
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def behind_main() -> Iterator[None]:
    """What main tells, the others need not tell again: run their part of a command within this.

    An error that main has met too ends main, and the launcher then ends the others while they wait here. Whoever is
    still there afterwards tells its error itself. Where nothing went wrong, only main comes back.
    """
    index, count = launched()
    try:
        yield
        if count > 1:
            _disband(index)
    except Interrupted as interrupt:
        if index:
            raise SystemExit(128 + interrupt.signal) from None
        raise
    except (Exception, KeyboardInterrupt) as error:
        if not index:
            raise
        with _ended_by_signals(wanted=True):
            time.sleep(PATIENCE_SECONDS)
        if isinstance(error, ProcessLostError | KeyboardInterrupt):
            raise SystemExit(1) from None
        if isinstance(error, MbcompressError):
            error.args = (f"process {index} of 0 to {count - 1}: {error}",)
        raise
