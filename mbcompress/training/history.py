"""History of a training by epoch, as a table and a picture for the report."""

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
"""Minimum number of epochs for a picture."""


@dataclass(frozen=True)
class History:
    """Validation scores before training and after each epoch, and the mean training loss of each epoch.

    The model has the weights of epoch `best`; 0 means before training.
    """

    scores: tuple[Score, ...]
    losses: tuple[float, ...]
    best: int

    def write_files(self, context: Context, label: str) -> None:
        """Add the learning curves to the files of the pass, for the report."""
        name = f"{slug(label)}-curve"
        if self.losses:
            context.files[f"{name}.csv"] = self.table()
        if len(self.losses) >= FEWEST_EPOCHS and context.process_group.is_main_process:
            context.files[f"{name}.svg"] = self.picture(name, label)

    def table(self) -> str:
        """Return a CSV table with one row per epoch; row 0 is before training."""
        lines = ["epoch,training loss,validation loss,correct,of"]
        for epoch, (score, loss) in enumerate(zip(self.scores, ("", *self.losses), strict=True)):
            shown = f"{loss:.6g}" if isinstance(loss, float) else ""
            lines.append(f"{epoch},{shown},{-score.negative_loss:.6g},{score.correct},{score.count}")
        return "\n".join(lines) + "\n"

    def picture(self, name: str, label: str) -> str:
        """Return an SVG of validation accuracy, with the best epoch marked, and training loss.

        Args:
            name: ID, unique in the page.
            label: name of the training.
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
