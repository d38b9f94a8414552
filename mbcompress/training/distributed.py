"""Distributed training: the process group, and the synchronization after each backward pass.

One all-reduce per optimizer step carries gradients, BatchNorm's running statistics and the loss, so that all processes
agree on divergence, gradient clipping and the best weights. As in DistributedDataParallel (Li et al. 2020), BatchNorm
normalizes each process's shard with its own statistics; unlike DDP, running statistics are averaged over all processes.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from mbcompress.contract.process_group import ProcessGroup
from mbcompress.errors import MbcompressError, ProcessLostError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

AVERAGED = ("running_mean", "running_var")
COUNTERS = ("num_batches_tracked",)  # the same in every process


class AccelerateGroup(ProcessGroup):
    """The processes joined by accelerate; all of them must make the same calls in the same order.

    Every method raises ProcessLostError if another process has exited.
    """

    def __init__(self, rank: int, world_size: int, device: torch.device) -> None:
        self.rank = rank
        self.world_size = world_size
        self.device = device

    def broadcast_object(self, make: Callable[[], T]) -> T:  # noqa: D102
        from accelerate.utils import broadcast_object_list

        values = [make() if self.is_main_process else None]
        with _noticing_loss():
            broadcast_object_list(values)
        return values[0]  # type: ignore[return-value]

    def all_reduce(self, tensor: Tensor) -> Tensor:  # noqa: D102
        from accelerate.utils import reduce

        with _noticing_loss():
            total: Tensor = reduce(tensor.to(self.device), "sum")
        return total

    def any(self, flag: bool) -> bool:  # noqa: D102
        import torch

        return bool(self.all_reduce(torch.tensor([float(flag)])) > 0)


@contextmanager
def _noticing_loss() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch.distributed has no exception class for a lost peer
        raise ProcessLostError("another process of this run has exited; see its error message") from error


class Synchronization:
    """Synchronizes modules that several processes train; does nothing for a single process.

    Args:
        modules: the model, and the objective if it has parameters.
        process_group: the processes; each trains on a shard of every batch.
    """

    def __init__(self, modules: Sequence[nn.Module], process_group: ProcessGroup) -> None:
        self.modules = modules
        self.process_group = process_group

    def begin(self) -> None:
        """Copy the main process's weights to all processes."""
        for module in self.modules:
            equalize(module, self.process_group)

    @torch.no_grad()
    def after_backward(self, loss: float) -> float:
        """Sum gradients and average running statistics over all processes; return the sum of the losses.

        Other buffers, such as activation ranges, are copied from the main process.

        Args:
            loss: loss of this process's shard, weighted by its fraction of the batch, like the gradients.
        """
        if self.process_group.world_size == 1:
            return loss
        learned = [each for module in self.modules for each in module.parameters() if each.requires_grad]
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in learned]
        statistics = list(self._buffers(averaged=True))
        present = torch.tensor([each.grad is not None for each in learned])
        sums = self._sum(
            [*gradients, *(each / self.process_group.world_size for each in statistics), present, _scalar(loss)]
        )
        total, seen = float(sums.pop()), sums.pop().tolist()
        for parameter, gradient, given in zip(learned, gradients, seen, strict=True):
            total_gradient = sums.pop(0)
            parameter.grad = gradient.copy_(total_gradient) if given else None
        for buffer in statistics:
            buffer.copy_(sums.pop(0))
        if others := list(self._buffers(averaged=False)):
            mains = self._sum(
                [
                    each.double() if self.process_group.is_main_process else torch.zeros_like(each).double()
                    for each in others
                ]
            )
            for buffer, value in zip(others, mains, strict=True):
                buffer.copy_(value)
        return total

    def _buffers(self, *, averaged: bool) -> Iterator[Tensor]:
        for module in self.modules:
            for name, buffer in module.named_buffers():
                own = name.rpartition(".")[2]
                if own not in COUNTERS and (own in AVERAGED) == averaged:
                    yield buffer

    def _sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Sum tensors over all processes with one all-reduce."""
        device = tensors[0].device
        flat = self.process_group.all_reduce(torch.cat([each.reshape(-1).to(device) for each in tensors]))
        parts = flat.split_with_sizes([each.numel() for each in tensors])
        return [part.view(each.shape) for part, each in zip(parts, tensors, strict=True)]


def equalize(module: nn.Module, process_group: ProcessGroup) -> None:
    """Copy the state dict of the main process's module to all processes.

    Raises:
        MbcompressError: the module of this process has other keys or shapes.
    """
    if process_group.world_size == 1:
        return
    state = process_group.broadcast_object(lambda: _on_cpu(module))
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise MbcompressError(
            f"{type(module).__name__}: differs from the main process's ({first_line(error)}); a pass must make random "
            "and time-dependent decisions on the main process: context.process_group.broadcast_object"
        ) from error


def _scalar(value: float) -> Tensor:
    return torch.tensor([value])


def _on_cpu(module: nn.Module) -> dict[str, object]:
    return {
        name: value.detach().cpu() if isinstance(value, Tensor) else value
        for name, value in module.state_dict().items()
    }
