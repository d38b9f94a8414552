"""What a pass is given beside the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mbcompress.contract.checkpoints import Checkpoints
from mbcompress.contract.process_group import ProcessGroup
from mbcompress.contract.progress import Progress
from mbcompress.contract.traits import INITIAL, Trait
from mbcompress.errors import MbcompressError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch
    from torch import Tensor, nn

    from mbcompress.contract.models import ModelSource
    from mbcompress.contract.passes import Pass
    from mbcompress.contract.runtimes import Runtime
    from mbcompress.contract.training import BaseTrainingConfig, DistillationConfig
    from mbcompress.data.splits import Development
    from mbcompress.training.callbacks import Callback
    from mbcompress.training.objectives import Objective


@dataclass(frozen=True)
class Context:
    """Data, device, seed and teachers of a run.

    Attributes:
        data: the splits that choices may depend on.
        baseline: the model as it was loaded, in eval mode, on `device`, without gradients.
        input_shape: channels, height, width.
        metrics: named numbers of this pass; what a pass writes here appears in the report.
        traits: what can be said of the model that the pass is given.
        runtimes: what the result will be exported for, in the recipe's order.
        pass_name: the name of the pass.
        later: of the passes that follow this one those that offer a preview, if it looks ahead.
        files: small documents of this pass by name: what a pass puts here is written beside the model of the step, and
            pictures (.svg) and tables (.csv in UTF-8, with a line of names) appear in the report.
        checkpoints: where trainings of this pass are saved on their way; `mbcompress.training.fit` does so.
        process_group: the processes that run the pass together, each from its beginning to its end;
            `mbcompress.training.fit` divides its batches among them. What a pass decides by a clock or by chance is
            decided on the main process: `process_group.broadcast_object`.
    """

    data: Development
    baseline: nn.Module
    input_shape: tuple[int, int, int]
    device: torch.device
    seed: int
    progress: Progress = field(default_factory=Progress)
    traits: frozenset[Trait] = INITIAL
    runtimes: Sequence[Runtime] = ()
    later: Sequence[Pass] = ()
    pass_name: str = "training"
    metrics: dict[str, float] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    process_group: ProcessGroup = field(default_factory=ProcessGroup)

    def fit(
        self,
        model: nn.Module,
        training: BaseTrainingConfig,
        *,
        objective: Objective | None = None,
        distillation: DistillationConfig | None = None,
        callbacks: Sequence[Callback] = (),
        label: str | None = None,
    ) -> nn.Module:
        """Train `model` in place and return it with its best weights, in eval mode.

        The epoch that they are of becomes the metric `best_epoch`, 0 for before the training.

        Args:
            model: (N, C, H, W) float images -> (N, num_classes) logits, on `device`.
            training: the settings, an option of the pass.
            objective: (model, batch) -> scalar loss; None is cross-entropy, and what `distillation` adds to it.
            distillation: what is learned from a teacher; None for the labels alone.
            callbacks: called around the optimizer steps, see `mbcompress.training.Callback`.
            label: names the training in progress, errors and files; the pass's name by default.

        Raises:
            TrainingDivergedError: the loss became NaN or infinite.
        """
        from mbcompress.training.trainer import fit

        history = fit(
            model,
            self,
            training,
            objective=objective,
            distillation=distillation,
            callbacks=callbacks,
            label=label or self.pass_name,
        )
        self.metrics["best_epoch"] = history.best
        return model

    def example(self, batch: int = 1) -> Tensor:
        """Zeros of the input's shape: (batch, C, H, W) float32 on `device`."""
        import torch

        return torch.zeros(batch, *self.input_shape, device=self.device)

    def calibration_batches(self, batch_size: int = 64) -> Iterator[Tensor]:
        """The calibration images, normalised, in order: (N, C, H, W) float32 on `device`.

        Args:
            batch_size: the most images of a batch; all have as many, or one less.
        """
        import numpy as np
        import torch

        pixels = self.data.calibration.pixels
        for places in np.array_split(np.arange(len(pixels)), -(-len(pixels) // batch_size)):
            yield torch.from_numpy(self.data.normalization.apply(pixels[places])).to(self.device)

    def decide_once(self, name: str, decide: Callable[[], Any]) -> Any:
        """What `decide` gives, or gave in a process that was stopped while this pass was at work.

        For choices around a training that would come out otherwise the next time, such as those by a clock: the
        training could not go on. And for those that take long.

        Args:
            name: of the choice, one of its own in this pass.
            decide: gives anything that JSON holds, and may add to `files` and `metrics`; every process calls it.
        """
        found = self.process_group.broadcast_object(lambda: self.checkpoints.decision(name))
        if found is None:
            files, metrics = dict(self.files), dict(self.metrics)
            decision = decide()
            added = {"files": _news(self.files, files), "metrics": _news(self.metrics, metrics)}
            found = {"decision": decision, **added}
            self.checkpoints.keep_decision(name, found)
        self.files.update(found["files"])
        self.metrics.update(found["metrics"])
        return found["decision"]

    def teacher(self, reference: str | ModelSource) -> nn.Module:
        """The model that an option of type `Teacher` names, frozen, in eval mode, on `device`.

        Raises:
            MbcompressError: it cannot take this run's images, or answers with another number of classes.
        """
        model = self.baseline if isinstance(reference, str) else reference.load()
        model = model.to(self.device).eval().requires_grad_(False)
        wanted = self.baseline(self.example()).shape
        try:
            given = model(self.example()).shape
        except Exception as error:  # a stranger's network may check its sizes in its own way
            shape = "x".join(str(size) for size in self.input_shape)
            raise MbcompressError(f"teacher: cannot take images of {shape}: {first_line(error)}") from error
        if given != wanted:
            raise MbcompressError(f"teacher: answers with {given[-1]} classes, the model with {wanted[-1]}")
        return model


def _news(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What has come or changed."""
    return {name: value for name, value in now.items() if name not in before or before[name] != value}
