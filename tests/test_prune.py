"""Pruning against a masked model, targets, rounding, and what cannot be reached."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from toys import toy as toy

import mbcompress
from mbcompress import MbcompressError, Pass, Progress, Trait
from mbcompress.errors import PassError, SpecError
from mbcompress.graph import count_macs, count_parameters
from mbcompress.registry.discovery import Registry

EXAMPLE = torch.zeros(1, 3, 32, 32)


@pytest.mark.parametrize("criterion", ["l1", "l2", "bn_scale"])
def test_pruned_model_equals_the_masked_one(
    registry: Registry, tiny_model: Callable[..., Any], make_context: Callable[..., Any], criterion: str
) -> None:
    """Half of one block's hidden channels are zeroed everywhere; they must be what goes, and no output may change."""
    model = tiny_model("mobilenet_v2", width=1.0)
    block = model.features[2].conv  # 1x1 to 96, 3x3 depthwise, 1x1 linear
    dead = slice(0, 48)
    with torch.no_grad():
        for weight in (block[0][0].weight, block[0][1].weight, block[0][1].bias):
            weight[dead] = 0
        for weight in (block[1][0].weight, block[1][1].weight, block[1][1].bias):
            weight[dead] = 0
        block[2].weight[:, dead] = 0
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        masked = model(images)
    share = 1 - count_macs(model, EXAMPLE) ** -1  # the least possible step
    options = {"criterion": criterion, "target_macs": share, "round_to": 48, "recalibrate": False}
    context = make_context(model)
    pruned = registry.passes.build("prune", options, registry).apply(model, context)
    assert pruned.features[2].conv[0][0].out_channels == 48
    with torch.no_grad():
        torch.testing.assert_close(pruned(images), masked, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("source", "scope", "option"),
    [
        ("mobilenet_v1", "global", "target_macs"),
        ("mobilenet_v1", "uniform", "target_parameters"),
        ("mobilenet_v2", "global", "target_parameters"),
        ("mobilenet_v2", "uniform", "target_macs"),
        ("mobilenet_v3_small", "global", "target_macs"),
        ("mobilenet_v3_small", "uniform", "target_parameters"),
        ("mobilenet_v3_large", "global", "target_parameters"),
        ("mobilenet_v3_large", "uniform", "target_macs"),
    ],
)
def test_target_is_met_and_channels_are_round(
    registry: Registry,
    tiny_model: Callable[..., Any],
    make_context: Callable[..., Any],
    source: str,
    scope: str,
    option: str,
) -> None:
    model = tiny_model(source, width=0.5)

    def size(model: torch.nn.Module) -> int:
        return count_macs(model, EXAMPLE) if option == "target_macs" else count_parameters(model)

    context = make_context(model)
    pruned = registry.passes.build("prune", {option: 0.6, "scope": scope}, registry).apply(model, context)
    left = size(pruned) / size(context.baseline)
    assert 0.35 < left <= 0.6
    assert context.metrics["achieved_ratio"] == left
    assert all(m.out_channels % 8 == 0 for m in pruned.modules() if isinstance(m, torch.nn.Conv2d))
    with torch.no_grad():
        assert pruned(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_steps_approach_the_target_with_recovery_between(
    registry: Registry, tiny_model: Callable[..., Any], make_context: Callable[..., Any]
) -> None:
    labels: list[str] = []

    class Recorder(Progress):
        def track(self, items: Any, label: str, total: int) -> Any:
            labels.append(label)
            return iter(())  # no training: only the sequence is of interest

    model = tiny_model("mobilenet_v1", width=0.5)
    context = make_context(model, progress=Recorder())
    options = {"target_macs": 0.4, "iterative_steps": 3, "recovery": {"epochs": 1}}
    pruned = registry.passes.build("prune", options, registry).apply(model, context)
    assert count_macs(pruned, EXAMPLE) <= 0.4 * count_macs(context.baseline, EXAMPLE)
    assert [label.partition(", epoch")[0] for label in labels] == [
        "prune, recovery 1/3",
        "prune, recovery 2/3",
        "prune, recovery 3/3",
    ]


def test_unreachable_target_says_what_could_be_reached(
    registry: Registry, tiny_model: Callable[..., Any], make_context: Callable[..., Any]
) -> None:
    model = tiny_model("mobilenet_v2")
    prune = registry.passes.build("prune", {"target_macs": 0.01}, registry)
    with pytest.raises(
        MbcompressError, match=r"target_macs 0.01 cannot be reached with round_to 8; the minimum is 0\.\d+"
    ):
        prune.apply(model, make_context(model))


def test_random_criterion_is_deterministic_by_seed(
    registry: Registry, tiny_model: Callable[..., Any], make_context: Callable[..., Any]
) -> None:
    prune = registry.passes.build("prune", {"target_macs": 0.5, "criterion": "random"}, registry)
    first, second = (prune.apply(m, make_context(m)).state_dict() for m in (tiny_model("mobilenet_v1"),) * 2)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_statistics_are_those_of_the_pruned_network(registry: Registry, make_context: Callable[..., Any]) -> None:
    from mbcompress.training import evaluate

    spec = {"source": "mobilenet_v1", "num_classes": 10, "width": 0.5, "input_size": 32, "strides_removed": 1}
    model = registry.build_model({**spec, "weights": "zoo:mobilenet_v1_digits"}).load()
    context = make_context(model)
    accuracy = {}
    for recalibrate in (False, True):
        options = {"target_macs": 0.5, "round_to": 16, "recalibrate": recalibrate}
        pruned = registry.passes.build("prune", options, registry).apply(model, context)
        data = context.data
        accuracy[recalibrate] = evaluate(pruned, data.validation, data.normalization, context.device).top1
    assert accuracy[True] > 0.8 > accuracy[False]


def test_gradual_needs_recovery(registry: Registry) -> None:
    with pytest.raises(SpecError, match="'gradual', which needs 'recovery' and one iterative step"):
        registry.passes.build("prune", {"target_macs": 0.5, "gradual": 0.5}, registry)
    options = {"target_macs": 0.5, "gradual": 0.5, "recovery": {"epochs": 0}}
    with pytest.raises(SpecError, match="'gradual', which needs training; give 'recovery' epochs, or leave"):
        registry.passes.build("prune", options, registry)


def test_one_target_is_needed(registry: Registry) -> None:
    for options, got in (({}, "got none"), ({"target_macs": 0.5, "target_size": 0.5}, "got target_macs, target_size")):
        with pytest.raises(SpecError, match=f"needs exactly one of 'target_macs', .* 'target_latency'; {got}"):
            registry.passes.build("prune", options, registry)


@pytest.mark.parametrize(
    ("scope", "criterion"), [("global", "l1"), ("global", "random"), ("uniform", "taylor"), ("sensitivity", "l1")]
)
def test_channels_fade_until_removing_them_changes_nothing(
    registry: Registry, make_context: Callable[..., Any], scope: str, criterion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model at the end of the gradual training, and the one without the channels, answer alike."""
    spec = {"source": "mobilenet_v1", "num_classes": 10, "width": 0.5, "input_size": 32, "strides_removed": 1}
    model = registry.build_model({**spec, "weights": "zoo:mobilenet_v1_digits"}).load()
    context = small_context(make_context(model))
    recovery = {"epochs": 2, "lr": 0.05, "batch_size": 16, "ema": 0.5}
    options = {"target_macs": 0.6, "gradual": 0.5, "recovery": recovery, "round_to": 8, "recalibrate": False}
    prune = registry.passes.build("prune", {**options, "scope": scope, "criterion": criterion}, registry)
    faded: list[Any] = []
    recover = type(prune)._recover

    def watched(self: Any, model: Any, *arguments: Any, **more: Any) -> None:
        recover(self, model, *arguments, **more)
        faded.append(model)

    monkeypatch.setattr(type(prune), "_recover", watched)
    pruned = prune.apply(model, context)
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert 0.4 * count_macs(model, EXAMPLE) < count_macs(pruned, EXAMPLE) <= 0.6 * count_macs(model, EXAMPLE)
        torch.testing.assert_close(pruned(images), faded[0](images), rtol=1e-3, atol=1e-4)
        assert not torch.allclose(pruned(images), model(images), atol=0.1)


def test_fading_takes_no_more_than_was_asked_for(registry: Registry, make_context: Callable[..., Any]) -> None:
    """What is zero stays zero, so that one step that goes too far on the way could not be taken back."""
    spec = {"source": "mobilenet_v1", "num_classes": 10, "width": 0.5, "input_size": 32, "strides_removed": 1}
    model = registry.build_model({**spec, "weights": "zoo:mobilenet_v1_digits"}).load()
    recovery = {"epochs": 3, "lr": 0.05, "batch_size": 8}
    options = {"target_macs": 0.5, "gradual": 0.7, "recovery": recovery, "round_to": 4}
    context = small_context(make_context(model))
    registry.passes.build("prune", options, registry).apply(model, context)
    assert 0.47 < context.metrics["achieved_ratio"] <= 0.5


def test_zeros_of_single_weights_survive_while_channels_fade(
    registry: Registry, tiny_model: Callable[..., Any], make_context: Callable[..., Any]
) -> None:
    model = tiny_model("mobilenet_v1", width=0.5)
    context = replace(small_context(make_context(model)), traits=frozenset({Trait.FLOAT, Trait.SPARSE}))
    told: list[str] = []
    context.progress.say = told.append
    options = {"pattern": "2:4", "training": {"epochs": 0}}
    sparse = registry.passes.build("sparsify", options, registry).apply(model, context)
    recovery = {"epochs": 1, "lr": 0.01, "batch_size": 16}
    options = {"target_macs": 0.6, "gradual": 0.5, "recovery": recovery, "round_to": 8}
    pruned = registry.passes.build("prune", options, registry).apply(sparse, context)
    pointwise = [m.weight for m in pruned.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (1, 1)]
    zeros = sum(int((weight == 0).sum()) for weight in pointwise) / sum(weight.numel() for weight in pointwise)
    assert zeros > 0.4
    assert any("of 14 layers lose their 2:4 sparsity" in line for line in told)


def test_a_mild_target_by_sensitivity_takes_little(registry: Registry, make_context: Callable[..., Any]) -> None:
    """Where curves are flat, even no tolerance at all would take far more than asked for."""
    spec = {"source": "mobilenet_v1", "num_classes": 10, "width": 0.5, "input_size": 32, "strides_removed": 1}
    model = registry.build_model({**spec, "weights": "zoo:mobilenet_v1_digits"}).load()
    context = make_context(model)
    options = {"scope": "sensitivity", "target_macs": 0.9, "round_to": 8, "sensitivity_ratios": [0.5]}
    pruned = registry.passes.build("prune", options, registry).apply(model, context)
    assert 0.75 * count_macs(model, EXAMPLE) < count_macs(pruned, EXAMPLE) <= 0.9 * count_macs(model, EXAMPLE)


def test_a_choice_by_the_clock_is_not_made_twice(
    registry: Registry,
    tiny_model: Callable[..., Any],
    make_context: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A training that was stopped could not go on with other channels than it began with."""
    from mbcompress.cache.checkpoints import CheckpointFolder
    from mbcompress.measure import ExportBenchmark

    monkeypatch.setattr("mbcompress_prune.channel_passes.MEASURED_STEPS", 3)
    model = tiny_model("mobilenet_v1", width=0.5)
    context = make_context(model, runtimes=(registry.runtimes.build("onnx", {}, registry),))
    prune = registry.passes.build("prune", {"target_latency": 0.7, "recalibrate": False}, registry)
    shapes = []
    for error in (1.0, 1.3):  # what a clock says of the same network may differ
        monkeypatch.setattr(
            ExportBenchmark,
            "latency",
            lambda self, model, error=error: (
                error * count_macs(model, EXAMPLE) / count_macs(self.context.baseline, EXAMPLE)
            ),
        )
        pruned = prune.apply(model, replace(context, checkpoints=CheckpointFolder(tmp_path)))
        shapes.append([parameter.shape for parameter in pruned.parameters()])
    assert shapes[0] == shapes[1]
    (tmp_path / "step-1.decision.json").write_text("{")
    pruned = prune.apply(model, replace(context, checkpoints=CheckpointFolder(tmp_path)))
    assert shapes[0] != [parameter.shape for parameter in pruned.parameters()]


def test_an_analysis_is_not_lost_when_a_run_goes_on(
    registry: Registry,
    tiny_model: Callable[..., Any],
    make_context: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its table and picture are there after a restart, without it being made again."""
    from mbcompress.cache.checkpoints import CheckpointFolder

    model = tiny_model("mobilenet_v1")
    options = {"scope": "sensitivity", "target_macs": 0.7, "round_to": 8, "sensitivity_ratios": [0.5]}
    prune = registry.passes.build("prune", {**options, "sensitivity_images": 20}, registry)
    runs = []
    for _ in range(2):
        context = make_context(model, checkpoints=CheckpointFolder(tmp_path))
        runs.append((count_macs(prune.apply(model, context), EXAMPLE), context.files, context.metrics))
        monkeypatch.setattr("mbcompress_prune.sensitivity.analyse", None)
    assert runs[0] == runs[1]
    assert set(runs[0][1]) == {"sensitivity.csv", "sensitivity.svg"}


def small_context(context: Any) -> Any:
    """With so few training images that an epoch takes a moment."""
    few = context.data.train.take(np.arange(64))
    return replace(context, data=replace(context.data, train=few))


def test_a_gradual_training_that_was_interrupted_fades_the_same_channels(
    tiny_model: Callable[..., Any], make_context: Callable[..., Any]
) -> None:
    from mbcompress_prune.channels import ChannelPruner, output_layer
    from mbcompress_prune.gradual import GradualChannelPruning

    from mbcompress.training import TrainerState

    model = tiny_model("mobilenet_v2", width=0.5)
    kept = output_layer(model, EXAMPLE)
    pruner = ChannelPruner("l1", "global", 8, 0)

    def choose(model: Any, share: float) -> Any:
        return pruner.choose(model, EXAMPLE, 0.5 * share, kept)

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))  # no bias is zero by itself
    fading = GradualChannelPruning(choose, ramp=1.0, sparse=False)
    fading.on_train_start(model, TrainerState(1, 0, 100))
    fading.on_train_batch_end(model, TrainerState(1, 30, 100))
    assert not fading.target_reached
    zeros = {name: parameter == 0 for name, parameter in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.001)  # what a step of the optimizer does to zeros too
    fading.on_train_batch_end(model, TrainerState(1, 31, 100))
    assert all(torch.equal(parameter == 0, zeros[name]) for name, parameter in model.named_parameters())
    resumed = GradualChannelPruning(choose, ramp=1.0, sparse=False)
    resumed.on_train_start(model, TrainerState(1, 31, 100))
    resumed.load_state_dict(json.loads(json.dumps(fading.state_dict())))
    assert resumed.slices == fading.slices
    resumed.on_train_batch_end(model, TrainerState(1, 32, 100))
    assert all(torch.equal(parameter == 0, zeros[name]) for name, parameter in model.named_parameters())
    resumed.on_train_batch_end(model, TrainerState(1, 100, 100))
    assert resumed.target_reached
    more = {name: parameter == 0 for name, parameter in model.named_parameters()}
    assert all(bool(more[name][zeros[name]].all()) for name in zeros)
    assert sum(int(each.sum()) for each in more.values()) > sum(int(each.sum()) for each in zeros.values())


def test_taylor_spares_what_the_loss_depends_on(registry: Registry, make_context: Callable[..., Any]) -> None:
    """A block's channels that the next layer ignores go first, however large their weights."""
    spec = {"source": "mobilenet_v1", "num_classes": 10, "width": 0.5, "input_size": 32, "strides_removed": 1}
    model = registry.build_model({**spec, "weights": "zoo:mobilenet_v1_digits"}).load()
    last = model.features[-1][1][0]  # 1x1 convolution before the classifier
    channels = last.out_channels
    with torch.no_grad():
        model.classifier[1].weight[:, : channels // 2] = 0
        last.weight[: channels // 2] *= 10
    context = make_context(model)
    options = {"criterion": "taylor", "target_macs": 0.97, "round_to": channels // 2, "recalibrate": False}
    pruned = registry.passes.build("prune", options, registry).apply(model, context)
    assert pruned.features[-1][1][0].out_channels == channels // 2
    images = torch.from_numpy(context.data.normalization.apply(context.data.validation.pixels))
    with torch.no_grad():
        torch.testing.assert_close(pruned(images), model(images), rtol=1e-3, atol=1e-3)


def test_sensitivity_finds_the_group_that_matters_and_spares_it(
    registry: Registry, make_context: Callable[..., Any]
) -> None:
    spec = {"source": "mobilenet_v1", "num_classes": 10, "width": 0.5, "input_size": 32, "strides_removed": 1}
    model = registry.build_model({**spec, "weights": "zoo:mobilenet_v1_digits"}).load()
    context = make_context(model)
    options = {"round_to": 8, "sensitivity_ratios": [0.5]}
    same = registry.passes.build("sensitivity", options, registry).apply(model, context)
    assert same is model
    rows = [line.split(",") for line in context.files["sensitivity.csv"].splitlines()]
    assert rows[0] == ["layer", "channels", "pruned", "top1", "images"]
    assert context.metrics["groups"] == (len(rows) - 1) / 2 == 14
    assert context.files["sensitivity.svg"].startswith("<svg")
    drops = {row[0]: float(whole[3]) - float(row[3]) for whole, row in zip(rows[1::2], rows[2::2], strict=True)}
    pruned = registry.passes.build("prune", {**options, "target_macs": 0.6, "scope": "sensitivity"}, registry)
    result = pruned.apply(model, context)
    assert count_macs(result, EXAMPLE) <= 0.6 * count_macs(model, EXAMPLE)
    left = {name: len(result.get_submodule(name).weight) / len(model.get_submodule(name).weight) for name in drops}
    assert left[max(drops, key=lambda name: drops[name])] > left[min(drops, key=lambda name: drops[name])]


def test_ratios_are_read_off_the_curves() -> None:
    from mbcompress_prune.sensitivity import Curve

    curve = Curve(("a",), 64, (0.0, 0.25, 0.5), (0.9, 0.91, 0.8))
    assert curve.ratio_at(0.0) == pytest.approx(0.25)
    assert curve.ratio_at(0.05) == pytest.approx(0.375)
    assert curve.ratio_at(0.1) == pytest.approx(0.5)
    assert curve.ratio_at(1.0) == pytest.approx(0.95)
    rates = [curve.ratio_at(step / 100) for step in range(101)]
    assert rates == sorted(rates)


@pytest.mark.parametrize("option", ["target_size", "target_latency"])
def test_a_measured_target_is_met_by_the_exported_file(
    registry: Registry,
    tiny_model: Callable[..., Any],
    make_context: Callable[..., Any],
    option: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mbcompress.measure import ExportBenchmark

    monkeypatch.setattr("mbcompress_prune.channel_passes.MEASURED_STEPS", 2)
    if option == "target_latency":  # real times differ from run to run: here operations stand for them
        monkeypatch.setattr(
            ExportBenchmark,
            "latency",
            lambda self, model: count_macs(model, EXAMPLE) / count_macs(self.context.baseline, EXAMPLE),
        )
    model = tiny_model("mobilenet_v1", width=0.5)
    context = make_context(model, runtimes=(registry.runtimes.build("onnx", {}, registry),))
    prune = registry.passes.build("prune", {option: 0.8}, registry)
    pruned = prune.apply(model, context)
    assert 0.3 < context.metrics["achieved_ratio"] <= 0.8
    assert all(m.out_channels % 16 == 0 for m in pruned.modules() if isinstance(m, torch.nn.Conv2d))  # as it likes it


def test_a_network_that_will_be_int8_is_measured_in_int8(
    registry: Registry, tiny_model: Callable[..., Any], make_context: Callable[..., Any]
) -> None:
    from mbcompress.measure import ExportBenchmark

    model = tiny_model("mobilenet_v1")
    ptq = registry.passes.build("ptq", {"algorithm": "minmax", "keep_float": ["features.11.*"]}, registry)
    context = make_context(model, runtimes=(registry.runtimes.build("onnx", {}, registry),), later=(ptq,))
    with ExportBenchmark(context) as benchmark, ExportBenchmark(replace(context, later=())) as plain:
        size = benchmark.size(model)
        assert size == pytest.approx(plain.size(ptq.apply(model, context)), rel=0.001)
        assert size < 0.5
        assert plain.size(model) == 1
    assert context.metrics["float_layers"] == 2  # of the pass itself; its preview leaves none


def test_what_follows_belongs_to_a_step_that_looks_ahead(
    toy: dict[str, Any], registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mbcompress_prune.channel_passes import Prune

    from mbcompress.cache.keys import pass_key

    given: list[Any] = []
    monkeypatch.setattr(Prune, "apply", lambda self, model, context: given.append((self, model, context)) or model)
    monkeypatch.setattr(registry.passes.classes["ptq"], "apply", lambda self, model, context: model)
    for target in ("target_size", "target_macs"):
        passes = [
            {"prune": {target: 0.5}},
            {"sparsify": {"distillation": None, "training": {"epochs": 0}}},
            {"ptq": {}},
        ]
        mbcompress.compress(None, {**toy, "passes": passes}, out=tmp_path / target)
    # what becomes sparse is as large as before
    assert [[each.name for each in context.later] for _, _, context in given] == [["ptq"], []]
    prune, model, context = given[0]
    keys = {
        pass_key(prune, model, replace(context, later=later), None, "")
        for later in (
            (),
            context.later,
            (registry.passes.build("ptq", {"symmetric": True}, registry),),
            (registry.passes.build("qat", {"training": {"epochs": 0}}, registry),),
        )
    }
    assert len(keys) == 4


class Unlucky(Pass):
    """Cannot say what it will do."""

    name: ClassVar[str] = "unlucky"

    def apply(self, model: Any, context: Any) -> Any:
        return model

    def preview(self, model: Any, context: Any) -> Any:
        raise ZeroDivisionError("no luck")


def test_a_preview_that_fails_is_its_own_passes_fault(
    registry: Registry, tiny_model: Callable[..., Any], make_context: Callable[..., Any]
) -> None:
    from mbcompress.contract.apply import apply_pass

    model = tiny_model("mobilenet_v1")
    runtimes = (registry.runtimes.build("onnx", {}, registry),)
    prune = registry.passes.build("prune", {"target_size": 0.7}, registry)
    with pytest.raises(PassError, match=r"^the preview of pass 'unlucky' raised ZeroDivisionError: no luck$"):
        apply_pass(prune, model, make_context(model, runtimes=runtimes, later=(Unlucky(),)), "recipe.yaml:3")


def test_latency_is_a_ratio_of_files_in_their_runtime(
    registry: Registry, tiny_model: Callable[..., Any], make_context: Callable[..., Any]
) -> None:
    from mbcompress.measure import ExportBenchmark

    model = tiny_model("mobilenet_v1")
    context = make_context(model, runtimes=(registry.runtimes.build("onnx", {}, registry),))
    with ExportBenchmark(context) as benchmark:
        assert 0.2 < benchmark.latency(model) < 5  # itself beside itself
        assert benchmark.size(model) == 1
        folder = benchmark._folder
    assert not folder.exists()


def test_blocks_that_matter_least_go_and_come_back_from_files(
    registry: Registry, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    from mbcompress_prune.blocks import residual_blocks

    from mbcompress import load
    from mbcompress.checkpoint.saving import save_pass

    spec = {"source": "mobilenet_v2", "num_classes": 10, "width": 0.5, "input_size": 32, "strides_removed": 2}
    source = registry.build_model({**spec, "weights": "zoo:mobilenet_v2_digits"})
    model = source.load()
    context = make_context(model)
    blocks = residual_blocks(model, context)
    assert blocks == [f"features.{number}" for number in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)]
    with torch.no_grad():  # a block that adds nothing cannot matter
        for parameter in model.features[9].parameters():
            parameter.zero_()
    images = torch.randn(4, 3, 32, 32)
    options = {"target_macs": 0.99, "recalibrate": False}
    shallow = registry.passes.build("prune_blocks", options, registry).apply(model, context)
    assert type(shallow.features[9]) is torch.nn.Identity
    assert context.metrics["blocks_removed"] == 1
    with torch.no_grad():
        torch.testing.assert_close(shallow(images), model(images))
    save_pass(tmp_path / "passes" / "01-x", {}, shallow, (3, 32, 32), frozenset({Trait.FLOAT}), source)
    again = load(tmp_path / "passes" / "01-x")
    assert repr(again) == repr(shallow)
    with torch.no_grad():
        assert torch.equal(again(images), shallow(images))


def test_blocks_in_a_row_are_blocks_each(make_context: Callable[..., Any]) -> None:
    from mbcompress_prune.blocks import residual_blocks

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.ReLU())

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images + self.body(images)

    stage = torch.nn.Sequential(Block(), Block(), Block())
    pool = torch.nn.AdaptiveAvgPool2d(1)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), stage, pool, torch.nn.Flatten(), torch.nn.Linear(8, 10))
    assert residual_blocks(net, make_context(net)) == ["1.0", "1.1", "1.2"]


def test_networks_without_residual_blocks_are_refused(
    registry: Registry, tiny_model: Callable[..., Any], make_context: Callable[..., Any]
) -> None:
    model = tiny_model("mobilenet_v1")
    with pytest.raises(MbcompressError, match="prune_blocks: the model has no residual blocks; prune channels"):
        registry.passes.build("prune_blocks", {"target_macs": 0.9}, registry).apply(model, make_context(model))
    deep = tiny_model("mobilenet_v3_small")
    with pytest.raises(MbcompressError, match=r"without all \d+ residual blocks it is 0\.\d+"):
        registry.passes.build("prune_blocks", {"target_macs": 0.1, "images": 50}, registry).apply(
            deep, make_context(deep)
        )
