"""Losses over logits: labels, teachers' softened answers, and hints from a teacher's feature maps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, mse_loss, normalize

from mbcompress.contract.context import Context
from mbcompress.contract.training import DistillationOptions, TrainingOptions
from mbcompress.data.loader import Batch, evaluation_batches
from mbcompress.errors import MbcompressError
from mbcompress.graph import fuse_conv_bn

Loss = Callable[[Batch, Tensor], Tensor]
"""(batch, logits (N, K)) -> scalar loss. The parameters of one that is an `nn.Module` are trained too."""


def label_loss(options: TrainingOptions) -> Loss:
    """Cross-entropy against the labels, with the options' label smoothing."""

    def loss(batch: Batch, logits: Tensor) -> Tensor:
        return cross_entropy(logits, batch.labels, label_smoothing=options.label_smoothing)

    return loss


@contextmanager
def task_loss(model: nn.Module, context: Context, options: DistillationOptions) -> Iterator[Loss]:
    """The loss that the options ask for, to train `model` with while the block runs.

    Raises:
        MbcompressError: a teacher does not fit the images or the number of classes.
    """
    if options.teacher is None:
        yield label_loss(options)
        return
    references = options.teacher if isinstance(options.teacher, tuple) else (options.teacher,)
    teachers = [fuse_conv_bn(context.teacher(each), context.example(2)) for each in references]
    with Distillation(model, teachers, context, options) as loss:
        yield loss


class Distillation(nn.Module):
    """Alpha T^2 KL(teacher / T || student / T) + (1 - alpha) cross-entropy (Hinton et al. 2015, section 2), and hints.

    T^2 keeps the gradients' size independent of the temperature. Of several teachers, the mean of the logits counts.
    Where images are not augmented, each teacher answers to each of them once. A context manager: on leaving it, `model`
    is as it was.

    Args:
        model: the student.
        teachers: frozen, in eval mode, on the context's device; only the first gives hints.

    Raises:
        MbcompressError: hints are wanted, and no two maps can be compared.
    """

    def __init__(
        self, model: nn.Module, teachers: list[nn.Module], context: Context, options: DistillationOptions
    ) -> None:
        super().__init__()
        self._teachers = teachers  # a list: their weights are no parameters of this loss
        self._context = context
        self._options = options
        self._against_labels = label_loss(options)
        self._answers: Tensor | None = None
        self._hints: list[_Taps] = []
        self.adapters = nn.ModuleList()
        if options.hints != "none":
            example = context.example(2)
            self._hints = _matching_taps(model, teachers[0], example)
            if not self._hints:
                raise MbcompressError(
                    f"hints {options.hints!r} compare maps of the same height and width, and the model and its teacher "
                    "share none; leave 'hints' out, or choose another teacher"
                )
            if options.hints == "features":
                pairs = zip(*(tap.channels for tap in self._hints), strict=True)
                self.adapters.extend(nn.Conv2d(ours, theirs, 1) for ours, theirs in pairs)
                self.to(context.device)

    def forward(self, batch: Batch, logits: Tensor) -> Tensor:
        """Scalar loss of a batch, right after the student has seen it."""
        options = self._options
        with torch.no_grad():
            targets = log_softmax(self._taught(batch).float() / options.temperature, dim=1)
        student = log_softmax(logits.float() / options.temperature, dim=1)
        soft = kl_div(student, targets, reduction="batchmean", log_target=True)
        loss = options.alpha * options.temperature**2 * soft
        loss = loss + (1 - options.alpha) * self._against_labels(batch, logits)
        return loss + options.hint_weight * self._hinted() if self._hints else loss

    def _taught(self, batch: Batch) -> Tensor:
        """The teachers' logits."""
        if batch.positions is None or self._hints:
            return self._ask(batch.images)
        if self._answers is None:
            data = self._context.data
            batches = evaluation_batches(data.train, data.normalization, self._context.device)
            self._answers = torch.cat([self._ask(images) for images, _ in batches])
        return self._answers[batch.positions.to(self._answers.device)]

    def _ask(self, images: Tensor) -> Tensor:
        return torch.stack([teacher(images) for teacher in self._teachers]).mean(0)

    def _hinted(self) -> Tensor:
        ours, theirs = (taps.maps for taps in self._hints)
        if self._options.hints == "attention":
            losses = [mse_loss(_attention(our), _attention(their)) for our, their in zip(ours, theirs, strict=True)]
        else:
            losses = [
                mse_loss(adapter(our).float(), their.float())
                for adapter, our, their in zip(self.adapters, ours, theirs, strict=True)
            ]
        return torch.stack(losses).mean()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for taps in self._hints:
            taps.remove()


def _attention(features: Tensor) -> Tensor:
    """Where a map is large: squares summed over channels, of unit length, (N, H W)."""
    return normalize(features.float().square().sum(1).flatten(1))


class _Taps:
    """Keeps what some modules of a model give in each forward pass."""

    def __init__(self, model: nn.Module, names: list[str], channels: list[int]) -> None:
        self.channels = channels
        self.maps: list[Tensor] = [torch.empty(0)] * len(names)
        self._hooks = [
            model.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, place=place: self.maps.__setitem__(place, output)
            )
            for place, name in enumerate(names)
        ]

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()


def _matching_taps(student: nn.Module, teacher: nn.Module, example: Tensor) -> list[_Taps]:
    """Taps at the last map of every size that both models have, largest first; an empty list if they share none."""
    found = [_last_maps(model, example) for model in (student, teacher)]
    shared = sorted(found[0].keys() & found[1].keys(), reverse=True)
    if not shared:
        return []
    return [
        _Taps(model, [maps[size][0] for size in shared], [maps[size][1] for size in shared])
        for model, maps in zip((student, teacher), found, strict=True)
    ]


def _last_maps(model: nn.Module, example: Tensor) -> dict[tuple[int, int], tuple[str, int]]:
    """(height, width) -> name and channels of the module that gives the last map of that size."""
    maps: dict[tuple[int, int], tuple[str, int]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
                maps[(output.shape[2], output.shape[3])] = (name, output.shape[1])

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
    training = model.training
    model.eval()
    with torch.no_grad():
        model(example)
    model.train(training)
    for hook in hooks:
        hook.remove()
    return maps
