"""Distributed runs with `accelerate launch` or `torchrun`.

All processes compute the passes; only the main process (rank 0) uses the cache, writes, measures and reports.
accelerate provides the process group; for a single process, it is not imported.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING

from mbcompress.errors import Interrupted, MbcompressError, ProcessLostError
from mbcompress.pipeline.interruption import handling_signals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mbcompress.contract.process_group import ProcessGroup
    from mbcompress.training.distributed import AccelerateGroup

LAUNCHERS = (("RANK", "WORLD_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"))
"""Environment variables with which launchers pass rank and world size."""

LONGEST_WAIT = timedelta(days=7)
"""Timeout of collectives: the others wait while the main process measures. Dead processes are noticed at once."""

PATIENCE_SECONDS = 5.0
"""Time that other processes wait before they report an error, because the main process usually has the same one."""


def launched() -> tuple[int, int]:
    """Return the launcher's rank and world size; (0, 1) without a launcher.

    Raises:
        MbcompressError: the launcher's environment variables are invalid.
    """
    for names in LAUNCHERS:
        texts = [os.environ.get(name) for name in names]
        if None in texts:
            continue
        try:
            rank, world_size = (int(text or "") for text in texts)
            if not 0 <= rank < world_size:
                raise ValueError
        except ValueError:
            raise MbcompressError(
                f"{', '.join(names)}: must be a rank and a world size, as a launcher sets them, "
                f"got {texts[0]!r} and {texts[1]!r}"
            ) from None
        if world_size > 1:
            return rank, world_size
    return 0, 1


def lacks_mpi() -> bool:
    """Whether accelerate has started only one process, as it does for several CPU processes without MPI."""
    accelerate_on_cpu = os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_ADDR" in os.environ
    return accelerate_on_cpu and launched()[1] == 1


def is_main() -> bool:
    """Whether this is the main process, the only one that prints."""
    return launched()[0] == 0


def join(device: str) -> AccelerateGroup:
    """Join the process group of the launcher.

    Args:
        device: 'auto', 'cpu' or 'cuda'; each process gets its own CUDA device.

    Raises:
        MbcompressError: accelerate is missing or has a different world size, or several processes cannot use `device`.
    """
    rank, world_size = launched()
    if device not in ("auto", "cpu", "cuda"):
        raise MbcompressError(f"--device {device}: cannot be used by {world_size} processes; choose auto, cpu or cuda")
    try:
        from accelerate import PartialState
    except ImportError:
        raise MbcompressError(
            f"accelerate: is not installed, but training in {world_size} processes needs it; "
            "pip install 'mbcompress[distributed]'"
        ) from None
    import torch

    from mbcompress.training.device import choose
    from mbcompress.training.distributed import AccelerateGroup

    cpu = choose(device).type != "cuda"
    ours = not torch.distributed.is_initialized()
    with handling_signals(signal.SIG_DFL) if rank else nullcontext():  # Python handlers do not run while it waits
        state = PartialState(cpu=cpu, timeout=LONGEST_WAIT)
    if (state.process_index, state.num_processes) != (rank, world_size):
        raise MbcompressError(
            f"accelerate: has {state.num_processes} processes, but the launcher started {world_size}; "
            "on the CPU, your program must start with Accelerator(cpu=True)"
        )
    if ours:
        import atexit

        atexit.register(state.destroy_process_group)
    return AccelerateGroup(rank, world_size, state.device)


def _leave(rank: int) -> None:
    """Leave the process group before interpreter shutdown, when a gloo thread could abort the process."""
    from accelerate import PartialState

    if rank:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    PartialState().destroy_process_group()


@contextmanager
def behind_main() -> Iterator[None]:
    """Run a command in all processes, with only the main process reporting how it ends.

    If the main process fails, it exits, and the launcher terminates the others while they wait here. A process that is
    still alive after that reports its own error. Without an error, only the main process leaves the block.
    """
    rank, world_size = launched()
    try:
        yield
        if world_size > 1:
            _leave(rank)
    except Interrupted as interrupt:
        if rank:
            raise SystemExit(128 + interrupt.signal) from None
        raise
    except (Exception, KeyboardInterrupt) as error:
        if not rank:
            raise
        with handling_signals(signal.SIG_DFL):
            time.sleep(PATIENCE_SECONDS)
        if isinstance(error, ProcessLostError | KeyboardInterrupt):
            raise SystemExit(1) from None
        if isinstance(error, MbcompressError):
            error.args = (f"process {rank} of 0 to {world_size - 1}: {error}",)
        raise


def share_files(directory: Path, process_group: ProcessGroup) -> None:
    """Copy the files in the main process's `directory` to the `directory` of every other process."""
    if process_group.world_size == 1:
        return
    files = process_group.broadcast_object(lambda: {path.name: path.read_bytes() for path in directory.iterdir()})
    if not process_group.is_main_process:
        directory.mkdir(parents=True)
        for name, content in files.items():
            (directory / name).write_bytes(content)
