"""ProcessGroup: the processes of a distributed training, as a pass sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

T = TypeVar("T")


class ProcessGroup:
    """A single process, without communication; `mbcompress.training.distributed` implements several processes.

    Attributes:
        rank: rank of this process; rank 0 is the main process.
        world_size: number of processes.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that decides, writes and reports."""
        return self.rank == 0

    @property
    def shard(self) -> tuple[int, int]:
        """(rank, world_size)."""
        return self.rank, self.world_size

    def broadcast_object(self, make: Callable[[], T]) -> T:
        """Call `make` on the main process only and return its result on every process."""
        return make()

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes, bit-identical on each; shapes must be equal."""
        return tensor

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is true on any process."""
        return flag
