"""Save and load training checkpoints: all state besides the options, the data and the code."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from mbcompress.training.evaluation import Score

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mbcompress.training.trainer import Trainer

StateDict = dict[str, Any]


@dataclass
class Reached:
    """Progress of a training: `step` optimizer steps of `epoch` (1-based) are done.

    Attributes:
        scores: validation scores before training and after each epoch.
        best: the epoch with the best score; 0 means before training.
        best_state: the state dict of epoch `best`.
        target_reached: whether all callbacks had reached their targets at epoch `best`.
        losses: mean training loss of each epoch.
        running: sum of the losses in this epoch so far.
    """

    epoch: int
    step: int
    scores: list[Score]
    best: int
    best_state: StateDict
    target_reached: bool
    losses: list[float] = field(default_factory=list)
    running: float = 0.0


def save(trainer: Trainer) -> None:
    """Write the trainer's checkpoint."""
    reached = trainer.reached
    optimizer = trainer.optimizer.state_dict()
    parts: dict[str, Mapping[str, Any]] = {
        "model": trainer.model.state_dict(),
        "best": reached.best_state,
        "average": trainer.average.state_dict() if trainer.average else {},
        "objective": trainer.objective.state_dict() if isinstance(trainer.objective, nn.Module) else {},
        **{f"optimizer {index}": state for index, state in optimizer["state"].items()},
        **{f"callback {index}": callback.state_dict() for index, callback in enumerate(trainer.callbacks)},
    }
    tensors: dict[str, Tensor] = {}
    plain: dict[str, StateDict] = {}
    for part, state in parts.items():
        plain[part] = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
        tensors |= {f"{part}/{name}": value for name, value in state.items() if isinstance(value, Tensor)}
    facts = {
        "reached": {name: value for name, value in vars(reached).items() if name not in ("scores", "best_state")},
        "scores": [asdict(score) for score in reached.scores],
        "param_groups": optimizer["param_groups"],
        "scheduler": trainer.scheduler.state_dict(),
        "plain": plain,
    }
    trainer.checkpoint.write(tensors, facts)


def load(trainer: Trainer, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Reached:
    """Restore a checkpoint written by `save` and return the progress."""

    def part(name: str) -> StateDict:
        own = {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}
        return {**facts["plain"].get(name, {}), **own}

    trainer.model.load_state_dict(part("model"))
    indices = [int(name.removeprefix("optimizer ")) for name in facts["plain"] if name.startswith("optimizer ")]
    state = {index: part(f"optimizer {index}") for index in indices}
    trainer.optimizer.load_state_dict({"state": state, "param_groups": facts["param_groups"]})
    trainer.scheduler.load_state_dict(dict(facts["scheduler"]))
    if trainer.average:
        trainer.average.load_state_dict(part("average"))
    if isinstance(trainer.objective, nn.Module):
        trainer.objective.load_state_dict(part("objective"))
    scores = [Score(**score) for score in facts["scores"]]
    trainer.reached = Reached(scores=scores, best_state=part("best"), **facts["reached"])
    trainer.start_callbacks(trainer.state)
    for index, callback in enumerate(trainer.callbacks):
        callback.load_state_dict(part(f"callback {index}"))
    return trainer.reached
