"""Context: what a pass receives besides the model."""

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
    """Data, device, seed and teachers for a pass.

    Attributes:
        data: all splits except the test split.
        baseline: the model as loaded, frozen, in eval mode, on `device`.
        input_shape: channels, height, width.
        metrics: metrics of this pass by name, shown in the report.
        traits: traits of the model that the pass receives.
        runtimes: the runtimes that the result is exported to, in the recipe's order; empty unless the pass sets
            `uses_runtimes`.
        pass_name: the name of the pass.
        later: the later passes that implement `preview`; empty unless this pass sets `looks_ahead`.
        files: text files of this pass by name, written next to its model; pictures (.svg) and tables (.csv in UTF-8
            with a header row) are shown in the report.
        checkpoints: stores training checkpoints of this pass; used by `mbcompress.training.fit`.
        process_group: the processes that run the pass; each executes all of it, and `mbcompress.training.fit` divides
            batches among them. Make decisions that depend on time or randomness on the main process, with
            `process_group.broadcast_object`.
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
        """Train `model` in place and return it in eval mode with its best weights.

        Sets the metric `best_epoch`; 0 means the weights before training.

        Args:
            model: (N, C, H, W) float images -> (N, num_classes) logits, on `device`.
            training: the training configuration, usually an option of the pass.
            objective: (model, batch) -> scalar loss; by default cross-entropy, with `distillation` if given.
            distillation: knowledge distillation from a teacher; None trains on the labels only.
            callbacks: called around optimizer steps; see `mbcompress.training.Callback`.
            label: name in progress messages, errors and file names; by default the pass's name.

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
        """Return an all-zero input: (batch, C, H, W) float32 on `device`."""
        import torch

        return torch.zeros(batch, *self.input_shape, device=self.device)

    def calibration_batches(self, batch_size: int = 64) -> Iterator[Tensor]:
        """Yield the normalized calibration images in order: (N, C, H, W) float32 on `device`.

        Args:
            batch_size: maximum batch size; batch sizes differ by at most one image.
        """
        import numpy as np
        import torch

        pixels = self.data.calibration.pixels
        for places in np.array_split(np.arange(len(pixels)), -(-len(pixels) // batch_size)):
            yield torch.from_numpy(self.data.normalization.apply(pixels[places])).to(self.device)

    def decide_once(self, name: str, decide: Callable[[], Any]) -> Any:
        """Return the result of `decide`, or its stored result if this pass was interrupted and resumed.

        Use it for decisions that training depends on and that could differ on resume, such as decisions based on
        timing, and for slow ones.

        Args:
            name: name of the decision, unique within the pass.
            decide: returns a JSON-serializable value and can add to `files` and `metrics`; called by every process.
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
        """Load the model that an option of type `Teacher` names: frozen, in eval mode, on `device`.

        Raises:
            MbcompressError: the teacher does not accept the images of this run, or has a different number of classes.
        """
        model = self.baseline if isinstance(reference, str) else reference.load()
        model = model.to(self.device).eval().requires_grad_(False)
        wanted = self.baseline(self.example()).shape
        try:
            given = model(self.example()).shape
        except Exception as error:  # a model can reject an input size with any exception
            shape = "x".join(str(size) for size in self.input_shape)
            raise MbcompressError(f"teacher: cannot take images of {shape}: {first_line(error)}") from error
        if given != wanted:
            raise MbcompressError(f"teacher: has {given[-1]} classes, but the model has {wanted[-1]}")
        return model


def _news(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Entries that were added or changed."""
    return {name: value for name, value in now.items() if name not in before or before[name] != value}
