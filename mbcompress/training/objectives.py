"""Objectives: (model, batch) -> loss. Cross-entropy, and distillation of logits and feature maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, mse_loss, normalize

from mbcompress.data.loader import Batch, evaluation_batches
from mbcompress.errors import MbcompressError
from mbcompress.graph import fuse_conv_bn

if TYPE_CHECKING:
    from mbcompress.contract.context import Context
    from mbcompress.contract.training import DistillationConfig

Objective = Callable[[nn.Module, Batch], Tensor]
"""(model in training mode, batch) -> scalar loss. If it is an `nn.Module`, its parameters are trained too."""


class CrossEntropy:
    """Cross-entropy; labels are class indices (N,) or probabilities (N, K)."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of the batch."""
        return self.of_logits(model(batch.images), batch)

    def of_logits(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, given its logits (N, K)."""
        return cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)


@contextmanager
def objective_for(
    model: nn.Module, context: Context, label_smoothing: float, distillation: DistillationConfig | None
) -> Iterator[Objective]:
    """Yield the objective to train `model` with, as the options specify.

    Raises:
        MbcompressError: a teacher does not fit the images or the number of classes.
    """
    if distillation is None:
        yield CrossEntropy(label_smoothing)
        return
    teacher = distillation.teacher
    references = teacher if isinstance(teacher, tuple) else (teacher,)
    teachers = [fuse_conv_bn(context.teacher(reference), context.example(2)) for reference in references]
    with Distillation(model, teachers, context, distillation, label_smoothing) as objective:
        yield objective


class Distillation(nn.Module):
    """Alpha T^2 KL(teacher / T || student / T) + (1 - alpha) cross-entropy (Hinton et al. 2015, section 2), plus hints.

    T^2 makes the gradient scale independent of the temperature. The logits of several teachers are averaged. Without
    augmentation, teacher logits are computed once and reused. A context manager: on exit, it removes its hooks from
    `student`.

    Args:
        student: the model to train.
        teachers: frozen, in eval mode, on the context's device; hints use the first one only.
        label_smoothing: label smoothing of the cross-entropy.

    Raises:
        MbcompressError: hints are enabled, but the two models have no feature maps of the same size.
    """

    def __init__(
        self,
        student: nn.Module,
        teachers: list[nn.Module],
        context: Context,
        config: DistillationConfig,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self._teachers = teachers  # a list, so that their weights are not parameters of this module
        self._context = context
        self._config = config
        self._cross_entropy = CrossEntropy(label_smoothing)
        self._outputs: Tensor | None = None
        self._hints: list[_FeatureMaps] = []
        self.adapters = nn.ModuleList()
        if config.hints != "none":
            self._hints = _matching_maps(student, teachers[0], context.example(2))
            if not self._hints:
                raise MbcompressError(
                    f"hints {config.hints!r} compare feature maps of equal height and width, but the model and its "
                    "teacher have none; leave 'hints' out, or choose another teacher"
                )
            if config.hints == "features":
                pairs = zip(*(maps.channels for maps in self._hints), strict=True)
                self.adapters.extend(nn.Conv2d(ours, theirs, 1) for ours, theirs in pairs)
                self.to(context.device)

    def forward(self, student: nn.Module, batch: Batch) -> Tensor:
        """Return the scalar loss of a batch."""
        return self.of_logits(student(batch.images), batch)

    def of_logits(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the loss of a batch, given the logits (N, K) that the student has just computed."""
        config = self._config
        with torch.no_grad():
            targets = log_softmax(self._teacher_logits(batch).float() / config.temperature, dim=1)
        student = log_softmax(logits.float() / config.temperature, dim=1)
        soft = kl_div(student, targets, reduction="batchmean", log_target=True)
        loss = config.alpha * config.temperature**2 * soft
        loss = loss + (1 - config.alpha) * self._cross_entropy.of_logits(logits, batch)
        return loss + config.hint_weight * self._hint_loss() if self._hints else loss

    def _teacher_logits(self, batch: Batch) -> Tensor:
        if batch.indices is None or self._hints:
            return self._run_teachers(batch.images)
        if self._outputs is None:
            data = self._context.data
            batches = evaluation_batches(data.train, data.normalization, self._context.device)
            self._outputs = torch.cat([self._run_teachers(images) for images, _ in batches])
        return self._outputs[batch.indices.to(self._outputs.device)]

    def _run_teachers(self, images: Tensor) -> Tensor:
        return torch.stack([teacher(images) for teacher in self._teachers]).mean(0)

    def _hint_loss(self) -> Tensor:
        ours, theirs = (maps.tensors for maps in self._hints)
        if self._config.hints == "attention":
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
        for maps in self._hints:
            maps.remove_hooks()


def _attention(features: Tensor) -> Tensor:
    """Return (N, H W) attention maps of (N, C, H, W) features: squares summed over channels, with unit norm."""
    return normalize(features.float().square().sum(1).flatten(1))


class _FeatureMaps:
    """Records the outputs of some modules in each forward pass."""

    def __init__(self, model: nn.Module, names: list[str], channels: list[int]) -> None:
        self.channels = channels
        self.tensors: list[Tensor] = [torch.empty(0)] * len(names)
        self._hooks = [
            model.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, index=index: self.tensors.__setitem__(index, output)
            )
            for index, name in enumerate(names)
        ]

    def remove_hooks(self) -> None:
        for hook in self._hooks:
            hook.remove()


def _matching_maps(student: nn.Module, teacher: nn.Module, example: Tensor) -> list[_FeatureMaps]:
    """Return the last feature maps of every size that both models have, largest first; empty if there are none."""
    last = [_last_maps(model, example) for model in (student, teacher)]
    shared = sorted(last[0].keys() & last[1].keys(), reverse=True)
    if not shared:
        return []
    return [
        _FeatureMaps(model, [maps[size][0] for size in shared], [maps[size][1] for size in shared])
        for model, maps in zip((student, teacher), last, strict=True)
    ]


def _last_maps(model: nn.Module, example: Tensor) -> dict[tuple[int, int], tuple[str, int]]:
    """Return (height, width) -> name and channels of the last module with an output of that size."""
    maps: dict[tuple[int, int], tuple[str, int]] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
                maps[(output.shape[2], output.shape[3])] = (name, output.shape[1])

        return hook

    hooks = [module.register_forward_hook(record(name)) for name, module in model.named_modules() if name]
    training = model.training
    model.eval()
    with torch.no_grad():
        model(example)
    model.train(training)
    for hook in hooks:
        hook.remove()
    return maps
