"""Post-training quantization from the captured graph to the scheme that is best on the validation split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from mbcompress import MbcompressError
from mbcompress.contract.unsupported import report_unsupported
from mbcompress.graph.export import ExportedGraph
from mbcompress.graph.layout import copy_model
from mbcompress.training import Score, evaluate

from . import saturation
from .calibration import Calibrated, calibrate, tune
from .correction import correct_biases
from .equalization import equalize
from .graph import FakeQuantized, capture
from .layers import layers
from .scheme import Algorithm, Scheme
from .sensitivity import Analysis, analyse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn
    from torch.fx import GraphModule

    from mbcompress import Context

    from .options import PostTraining


@dataclass(frozen=True)
class Quantized:
    """What post-training quantization came to.

    Attributes:
        model: with rounding simulated; its conversion computes the same, to the last bit.
        scheme: what is quantized, and how.
        score: on the validation split.
    """

    model: FakeQuantized
    scheme: Scheme
    score: Score


def preview(model: nn.Module, context: Context, options: PostTraining, label: str) -> nn.Module:
    """int8 with the ranges of the first calibration images: as fast and as large as what `PostTrainer` would find."""
    graph = capture(model, context.example(2), label)
    scheme = Scheme("minmax", options.symmetric, kept_float(graph, options, label))
    found = calibrate(graph, scheme, [next(context.calibration_batches())])
    return FakeQuantized(graph, found.scheme, found.ranges).convert()


def kept_float(graph: GraphModule, options: PostTraining, label: str) -> frozenset[str]:
    """Names of the layers that the option `keep_float` means.

    Raises:
        MbcompressError: a pattern means none.
    """
    names = list(layers(graph))
    kept = set[str]()
    for pattern in options.keep_float:
        found = {name for name in names if fnmatchcase(name, pattern)}
        if not found:
            raise MbcompressError(
                f"{label}: 'keep_float' has {pattern!r}, which is no convolution or linear layer of this model; there "
                f"are {', '.join(names[:3])} … {names[-1]}"
            )
        kept |= found
    return frozenset(kept)


class PostTrainer:
    """One network's quantization, as a pass's options ask for it.

    Args:
        model: float, in eval mode; it is not changed.
        label: the pass's name, for progress and errors.
    """

    def __init__(self, model: nn.Module, context: Context, options: PostTraining, label: str) -> None:
        self.context = context
        self.options = options
        self.label = label
        self.graph = capture(model, context.example(2), label)
        self.batches: list[Tensor] = list(context.calibration_batches())
        self.floating = self._score(ExportedGraph(self.graph))

    def run(self) -> Quantized:
        """Find the scheme, correct what the options say, and tell what was found."""
        options, context = self.options, self.context
        with context.progress.busy(f"{self.label}, ranges of weights and activations"):
            base = Scheme("minmax", options.symmetric, kept_float(self.graph, options, self.label), self._narrow())
            found, score = self._choose(base)
            if options.equalize:
                found, score = self._equalize(base, found, score)
        saturation.tell(self.graph, found.scheme, context, options.reduce_range, self.label)
        report_unsupported(context, options.unsupported, f"{self.label}: stays in float", found.unsupported)
        lacking = options.autotune is not None and score.top1 < self._wanted()
        if options.sensitivity or lacking:
            analysis = self._analyse(found)
            if lacking:
                found, score = self._spare_layers(found, score, analysis)
        model = self._simulated(found)
        if options.correct_bias:
            model, score = self._correct(model, found, score)
        context.metrics["float_layers"] = len(found.scheme.float_layers) + len(found.unsupported)
        context.metrics["float_top1"], context.metrics["ptq_top1"] = self.floating.top1, score.top1
        context.progress.say(
            f"{self.label}: {found.scheme}; {score.top1:.1%} of {score.count} validation images right, "
            f"in float {self.floating.top1:.1%}"
        )
        return Quantized(model, found.scheme, score)

    def _score(self, model: nn.Module) -> Score:
        data = self.context.data
        return evaluate(model, data.validation, data.normalization, self.context.device)

    def _narrow(self) -> frozenset[str]:
        """Names of the layers whose weights lose a bit."""
        narrows = saturation.narrows(self.options.reduce_range)
        return frozenset(each.name for each in saturation.saturating(self.graph)) if narrows else frozenset()

    def _choose(self, base: Scheme) -> tuple[Calibrated, Score]:
        """The best of the algorithms for ranges, by accuracy, then by loss."""
        wanted = self.options.algorithm
        algorithms: tuple[Algorithm, ...] = ("minmax", "kl") if wanted == "best" else (wanted,)
        schemes = [replace(base, algorithm=algorithm) for algorithm in algorithms]
        return max(self._tune(schemes, wanted=2.0), key=lambda pair: pair[1])

    def _tune(self, schemes: list[Scheme], wanted: float) -> list[tuple[Calibrated, Score]]:
        return tune(self.graph, schemes, self.batches, self._score, self.floating.top1, wanted)

    def _simulated(self, found: Calibrated) -> FakeQuantized:
        return FakeQuantized(self.graph, found.scheme, found.ranges)

    def _analyse(self, found: Calibrated) -> Analysis:
        analysis = analyse(self._simulated(found), self.context, self.options.sensitivity_images)
        self.context.files["quantization.csv"] = analysis.table()
        if analysis.alone:
            self.context.files["quantization.svg"] = analysis.picture()
        return analysis

    def _wanted(self) -> float:
        assert self.options.autotune is not None
        return self.floating.top1 - self.options.autotune.accuracy_drop / 100

    def _spare_layers(self, found: Calibrated, score: Score, analysis: Analysis) -> tuple[Calibrated, Score]:
        """The fewest layers in float that meet the budget, or the best that was found."""
        assert self.options.autotune is not None
        scheme = found.scheme
        ranking = [name for name in analysis.ranking() if name not in scheme.float_layers]
        budget, most = self.options.autotune, round(self.options.autotune.max_float * len(ranking))
        tried = [(found, score)]
        with self.context.progress.busy(f"{self.label}, layers in float"):
            counts = list(_counts(most, budget.max_trials))
            while counts:
                chosen = [scheme.float_layers | set(ranking[:count]) for count in counts]
                tried += self._tune([replace(scheme, float_layers=names) for names in chosen], self._wanted())
                counts = self._between(tried) if len(tried) <= budget.max_trials else []
        met = [pair for pair in tried if pair[1].top1 >= self._wanted()]
        if not met:
            self.context.progress.say(
                f"{self.label}: no set of at most {most} layers in float keeps {self._wanted():.1%}; "
                "the best that was found is kept"
            )
        self.context.metrics["budget_met"] = float(bool(met))
        fewest = min(met, key=lambda pair: len(pair[0].scheme.float_layers), default=None)
        return fewest or max(tried, key=lambda pair: pair[1])

    def _between(self, tried: list[tuple[Calibrated, Score]]) -> list[int]:
        """The number of layers in float to try next, between the fewest that were enough and those that were not."""
        spared = len(tried[0][0].scheme.float_layers)
        numbers = {len(pair[0].scheme.float_layers) - spared: pair[1].top1 >= self._wanted() for pair in tried}
        enough = min((count for count, met in numbers.items() if met), default=0)
        short = max((count for count, met in numbers.items() if not met and count < enough), default=enough)
        return [(short + enough) // 2] if enough - short > 1 else []

    def _equalize(self, base: Scheme, found: Calibrated, score: Score) -> tuple[Calibrated, Score]:
        """What is best on the equalized graph, if that is better; other layers may saturate there."""
        graph = self.graph
        self.graph = copy_model(graph)
        pairs = equalize(self.graph, self.batches)
        equal, after = self._choose(replace(base, narrow_layers=self._narrow()))
        self._tell("equalization", f"{pairs} pairs of layers", score, after)
        if after < score:
            self.graph = graph
            return found, score
        return equal, after

    def _correct(self, model: FakeQuantized, found: Calibrated, score: Score) -> tuple[FakeQuantized, Score]:
        """The model with corrected biases if that is better."""
        corrected = self._simulated(found)
        count = correct_biases(corrected, self.batches)
        after = self._score(corrected)
        self._tell("bias correction", f"{count} layers", score, after)
        return (model, score) if after < score else (corrected, after)

    def _tell(self, what: str, where: str, before: Score, after: Score) -> None:
        kept = "not kept" if after < before else "kept"
        self.context.metrics[f"{what.replace(' ', '_')}_loss_change"] = before.negative_loss - after.negative_loss
        self.context.progress.say(
            f"{self.label}: {what} of {where} is {kept}: validation {before.top1:.1%} to {after.top1:.1%}, "
            f"loss {-before.negative_loss:.4f} to {-after.negative_loss:.4f}"
        )


def _counts(most: int, trials: int) -> Iterator[int]:
    """1, 2, 4, … and at last `most`, at most `trials` of them."""
    count = 1
    for _ in range(trials - 1):
        if count >= most:
            break
        yield count
        count *= 2
    if most:
        yield most
