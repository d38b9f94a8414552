"""Several processes that train one model together: their process group, and what each step synchronizes.

One reduction a step carries gradients, BatchNorm's running statistics and the loss, so that every process decides the
same of them: whether the training diverges, how gradients are clipped, which weights were best. As in PyTorch's
DistributedDataParallel (Li et al. 2020), BatchNorm normalizes each process's shard by its own statistics; unlike
there, the running ones are the mean over all processes.
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
COUNTERS = ("num_batches_tracked",)  # the same in every process, whatever its images


class AccelerateGroup(ProcessGroup):
    """Those that accelerate has joined; every process makes the same calls in the same order.

    Every method raises ProcessLostError where another process has ended.
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
    except RuntimeError as error:  # torch.distributed has no class for a peer that is gone
        raise ProcessLostError("another process of this run has ended; its own message says why") from error


class Synchronization:
    """Modules that are trained in several processes at once; for one process nothing happens.

    Args:
        modules: the model, and a loss that learns.
        process_group: that trains them, each from a share of every batch.
    """

    def __init__(self, modules: Sequence[nn.Module], process_group: ProcessGroup) -> None:
        self.modules = modules
        self.process_group = process_group

    def begin(self) -> None:
        """Everybody goes on from main's weights."""
        for module in self.modules:
            equalize(module, self.process_group)

    @torch.no_grad()
    def after_backward(self, loss: float) -> float:
        """Replace gradients by their sum over all processes, running statistics by their mean; sum of the losses.

        Buffers that are no statistics of BatchNorm's, such as ranges of activations, become those of main.

        Args:
            loss: of this process's share, weighted, like its gradients, by its part of the batch.
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
        """Sums over all processes, by one reduction of them all."""
        device = tensors[0].device
        flat = self.process_group.all_reduce(torch.cat([each.reshape(-1).to(device) for each in tensors]))
        parts = flat.split_with_sizes([each.numel() for each in tensors])
        return [part.view(each.shape) for part, each in zip(parts, tensors, strict=True)]


def equalize(module: nn.Module, process_group: ProcessGroup) -> None:
    """Give the module of every process the state of main's.

    Raises:
        MbcompressError: it has other tensors than main's.
    """
    if process_group.world_size == 1:
        return
    state = process_group.broadcast_object(lambda: _on_cpu(module))
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise MbcompressError(
            f"{type(module).__name__}: is another in this process than in main ({first_line(error)}); what a pass "
            "decides by a clock or by chance it must take from main: context.process_group.broadcast_object"
        ) from error


def _scalar(value: float) -> Tensor:
    return torch.tensor([value])


def _on_cpu(module: nn.Module) -> dict[str, object]:
    return {
        name: value.detach().cpu() if isinstance(value, Tensor) else value
        for name, value in module.state_dict().items()
    }
