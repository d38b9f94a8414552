"""How a training went, epoch by epoch, as a table and as a picture for the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mbcompress.files import slug
from mbcompress.report import ACCENT, FAINT, MUTED, inline_svg

if TYPE_CHECKING:
    from mbcompress.contract.context import Context
    from mbcompress.training.evaluation import Score

SIZE = (640, 200)
FEWEST_EPOCHS = 3
"""Fewer do not make a picture."""


@dataclass(frozen=True)
class History:
    """Validation scores before training and after each epoch, and each epoch's mean loss in training.

    The model holds the weights of epoch `best`.
    """

    scores: tuple[Score, ...]
    losses: tuple[float, ...]
    best: int

    def write_files(self, context: Context, label: str) -> None:
        """Add the curve to the files of the pass, for the report."""
        name = f"{slug(label)}-curve"
        if self.losses:
            context.files[f"{name}.csv"] = self.table()
        if len(self.losses) >= FEWEST_EPOCHS and context.process_group.is_main_process:
            context.files[f"{name}.svg"] = self.picture(name, label)

    def table(self) -> str:
        """CSV: a line an epoch, from 0, the state before training."""
        lines = ["epoch,training loss,validation loss,correct,of"]
        for epoch, (score, loss) in enumerate(zip(self.scores, ("", *self.losses), strict=True)):
            shown = f"{loss:.6g}" if isinstance(loss, float) else ""
            lines.append(f"{epoch},{shown},{-score.negative_loss:.6g},{score.correct},{score.count}")
        return "\n".join(lines) + "\n"

    def picture(self, name: str, label: str) -> str:
        """Accuracy on the validation split, with the epoch whose weights were kept, beside the training loss, as SVG.

        Args:
            name: unique in the page.
            label: what the training is called.
        """

        def paint(figure: Any) -> None:
            accuracy, loss = figure.subplots(1, 2)
            top1 = [100 * score.top1 for score in self.scores]
            accuracy.axhline(top1[self.best], color=FAINT, linewidth=0.8)
            accuracy.plot(top1, color=ACCENT)
            accuracy.plot([self.best], [top1[self.best]], color=ACCENT, marker="o", markersize=4, clip_on=False)
            accuracy.set_title(f"top-1, % of {self.scores[0].count} validation images", fontsize=9, color=MUTED)
            loss.plot(range(1, len(self.losses) + 1), self.losses, color=ACCENT)
            loss.set_title("loss in training", fontsize=9, color=MUTED)
            for axes in (accuracy, loss):
                axes.set_xlabel("epoch", fontsize=9)
                axes.set_xlim(0, len(self.losses))
                axes.xaxis.get_major_locator().set_params(integer=True)
                axes.tick_params(labelsize=8)
            figure.tight_layout(pad=0.6)

        return inline_svg(name, f"{label}: accuracy on the validation split and loss, epoch by epoch", SIZE, paint)
