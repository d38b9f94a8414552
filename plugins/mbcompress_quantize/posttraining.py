"""Post-training quantization: find the scheme with the best score on the validation split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from mbcompress import MbcompressError, report_unsupported
from mbcompress.graph import ExportedGraph, copy_model
from mbcompress.training import Score, evaluate

from .calibration import Calibrated, calibrate, tune
from .correction import correct_biases
from .equalization import equalize_cross_layer
from .graph import FakeQuantized, canonical_graph
from .layers import find_layers
from .saturation import find_saturating, reduces_range, report_saturation
from .scheme import Algorithm, Scheme
from .sensitivity import Analysis, analyse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn
    from torch.fx import GraphModule

    from mbcompress import Context

    from .options import PostTraining

Trial = tuple[Calibrated, Score]


@dataclass(frozen=True)
class Quantized:
    """The result of post-training quantization.

    Attributes:
        model: with fake quantization; the converted model is bit-identical.
        scheme: how each layer is quantized.
        score: on the validation split.
    """

    model: FakeQuantized
    scheme: Scheme
    score: Score


def preview(model: nn.Module, context: Context, options: PostTraining, label: str) -> nn.Module:
    """Return an int8 model calibrated on one batch; its speed and size are those of the final result."""
    graph = canonical_graph(model, context.example(2), label)
    scheme = Scheme("minmax", options.symmetric, select_float_layers(graph, options, label))
    calibrated = calibrate(graph, scheme, [next(context.calibration_batches())])
    return FakeQuantized(graph, scheme, calibrated.ranges).convert()


def select_float_layers(graph: GraphModule, options: PostTraining, label: str) -> frozenset[str]:
    """Return the names of the layers that match `keep_float`.

    Raises:
        MbcompressError: a pattern matches no layer.
    """
    names = list(find_layers(graph))
    selected = set[str]()
    for pattern in options.keep_float:
        matching = {name for name in names if fnmatchcase(name, pattern)}
        if not matching:
            raise MbcompressError(
                f"{label}: 'keep_float': {pattern!r} matches no convolution or linear layer of this model; it has "
                f"{', '.join(names[:3])} … {names[-1]}"
            )
        selected |= matching
    return frozenset(selected)


class PostTrainer:
    """Quantizes a model with the options of a pass.

    Args:
        model: float, in eval mode; not changed.
        label: name of the pass, for progress and errors.
    """

    def __init__(self, model: nn.Module, context: Context, options: PostTraining, label: str) -> None:
        self.context = context
        self.options = options
        self.label = label
        self.graph = canonical_graph(model, context.example(2), label)
        self.batches: list[Tensor] = list(context.calibration_batches())
        self.float_score = self._score(ExportedGraph(self.graph))

    def run(self) -> Quantized:
        """Find the best scheme, apply the corrections that the options ask for, and report."""
        options, context = self.options, self.context
        with context.progress.busy(f"{self.label}, ranges of weights and activations"):
            float_layers = select_float_layers(self.graph, options, self.label)
            base = Scheme("minmax", options.symmetric, float_layers, self._reduce_range_layers())
            calibrated, score = self._choose(base)
            if options.equalize:
                calibrated, score = self._equalize(base, calibrated, score)
        report_saturation(self.graph, calibrated.scheme, context, options.reduce_range, self.label)
        report_unsupported(context, options.unsupported, f"{self.label}: stays in float", calibrated.unsupported)
        falls_short = options.autotune is not None and score.top1 < self._target_top1()
        if options.sensitivity or falls_short:
            analysis = self._analyse(calibrated)
            if falls_short:
                calibrated, score = self._autotune(calibrated, score, analysis)
        model = self._fake_quantized(calibrated)
        if options.correct_bias:
            model, score = self._correct_biases(model, calibrated, score)
        context.metrics["float_layers"] = len(calibrated.scheme.float_layers) + len(calibrated.unsupported)
        context.metrics["float_top1"], context.metrics["ptq_top1"] = self.float_score.top1, score.top1
        context.progress.say(
            f"{self.label}: {calibrated.scheme}; val top-1 {score.top1:.1%} on {score.count} images, "
            f"float {self.float_score.top1:.1%}"
        )
        return Quantized(model, calibrated.scheme, score)

    def _score(self, model: nn.Module) -> Score:
        data = self.context.data
        return evaluate(model, data.validation, data.normalization, self.context.device)

    def _reduce_range_layers(self) -> frozenset[str]:
        """Names of the layers with 7-bit weights."""
        if not reduces_range(self.options.reduce_range):
            return frozenset()
        return frozenset(sums.name for sums in find_saturating(self.graph))

    def _choose(self, base: Scheme) -> Trial:
        """The best calibration algorithm, by accuracy, then by loss."""
        option = self.options.algorithm
        algorithms: tuple[Algorithm, ...] = ("minmax", "kl") if option == "best" else (option,)
        schemes = [replace(base, algorithm=algorithm) for algorithm in algorithms]
        return max(self._tune(schemes, target_top1=2.0), key=_score_of)

    def _tune(self, schemes: list[Scheme], target_top1: float) -> list[Trial]:
        return tune(self.graph, schemes, self.batches, self._score, self.float_score.top1, target_top1)

    def _fake_quantized(self, calibrated: Calibrated) -> FakeQuantized:
        return FakeQuantized(self.graph, calibrated.scheme, calibrated.ranges)

    def _analyse(self, calibrated: Calibrated) -> Analysis:
        analysis = analyse(self._fake_quantized(calibrated), self.context, self.options.sensitivity_images)
        self.context.files["quantization.csv"] = analysis.table()
        if analysis.alone:
            self.context.files["quantization.svg"] = analysis.picture()
        return analysis

    def _target_top1(self) -> float:
        assert self.options.autotune is not None
        return self.float_score.top1 - self.options.autotune.accuracy_drop / 100

    def _autotune(self, calibrated: Calibrated, score: Score, analysis: Analysis) -> Trial:
        """The trial with the fewest float layers that meets the target, else the best trial."""
        assert self.options.autotune is not None
        scheme, target = calibrated.scheme, self._target_top1()
        ranking = [name for name in analysis.ranking() if name not in scheme.float_layers]
        budget, most = self.options.autotune, round(self.options.autotune.max_float * len(ranking))
        trials = [(calibrated, score)]
        with self.context.progress.busy(f"{self.label}, layers in float"):
            counts = list(_counts(most, budget.max_trials))
            while counts:
                choices = [scheme.float_layers | set(ranking[:count]) for count in counts]
                trials += self._tune([replace(scheme, float_layers=names) for names in choices], target)
                counts = _next_counts(trials, target) if len(trials) <= budget.max_trials else []
        met = [trial for trial in trials if trial[1].top1 >= target]
        if not met:
            self.context.progress.say(
                f"{self.label}: no set of at most {most} float layers reaches val top-1 {target:.1%}; using the best"
            )
        self.context.metrics["budget_met"] = float(bool(met))
        return min(met, key=_float_layers) if met else max(trials, key=_score_of)

    def _equalize(self, base: Scheme, calibrated: Calibrated, score: Score) -> Trial:
        """The best trial on the equalized graph, unless it scores lower."""
        graph = self.graph
        self.graph = copy_model(graph)
        pairs = equalize_cross_layer(self.graph, self.batches)
        # the equalized weights may saturate in other layers
        equalized, after = self._choose(replace(base, reduce_range_layers=self._reduce_range_layers()))
        self._report("equalization", f"{pairs} pairs of layers", score, after)
        if after < score:
            self.graph = graph
            return calibrated, score
        return equalized, after

    def _correct_biases(
        self, model: FakeQuantized, calibrated: Calibrated, score: Score
    ) -> tuple[FakeQuantized, Score]:
        """The model with corrected biases, unless it scores lower."""
        corrected = self._fake_quantized(calibrated)
        count = correct_biases(corrected, self.batches)
        after = self._score(corrected)
        self._report("bias correction", f"{count} layers", score, after)
        return (model, score) if after < score else (corrected, after)

    def _report(self, method: str, scope: str, before: Score, after: Score) -> None:
        outcome = "not kept" if after < before else "kept"
        self.context.metrics[f"{method.replace(' ', '_')}_loss_change"] = before.negative_loss - after.negative_loss
        self.context.progress.say(
            f"{self.label}: {method} of {scope}: val top-1 {before.top1:.1%} to {after.top1:.1%}, "
            f"loss {-before.negative_loss:.4f} to {-after.negative_loss:.4f}, {outcome}"
        )


def _score_of(trial: Trial) -> Score:
    return trial[1]


def _float_layers(trial: Trial) -> int:
    return len(trial[0].scheme.float_layers)


def _counts(most: int, trials: int) -> Iterator[int]:
    """Yield 1, 2, 4, … and finally `most`, at most `trials` numbers."""
    count = 1
    for _ in range(trials - 1):
        if count >= most:
            break
        yield count
        count *= 2
    if most:
        yield most


def _next_counts(trials: list[Trial], target_top1: float) -> list[int]:
    """The next number of float layers to try in the bisection, if any."""
    first = _float_layers(trials[0])
    met = {_float_layers(trial) - first: trial[1].top1 >= target_top1 for trial in trials}
    enough = min((count for count, is_met in met.items() if is_met), default=0)
    short = max((count for count, is_met in met.items() if not is_met and count < enough), default=enough)
    return [(short + enough) // 2] if enough - short > 1 else []
