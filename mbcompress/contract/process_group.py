"""ProcessGroup: the processes that train one model together, as a pass sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

T = TypeVar("T")


class ProcessGroup:
    """One process alone, for which nothing is sent; `mbcompress.training.distributed` has the group of several.

    Attributes:
        rank: of this process, from 0; rank 0 is the main process.
        world_size: how many processes there are.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Whether this process decides, writes and reports."""
        return self.rank == 0

    @property
    def shard(self) -> tuple[int, int]:
        """(rank, world_size)."""
        return self.rank, self.world_size

    def broadcast_object(self, make: Callable[[], T]) -> T:
        """The object that `make` returns on the main process, which alone calls it, in every process."""
        return make()

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum of the tensors of all processes, which have one shape; the same to the last bit in each."""
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return flag
