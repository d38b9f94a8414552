"""Post-training quantization: neural-compressor on our annotation, layers in float, corrections, saturation."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mbcompress_quantize import Ptq, saturation
from mbcompress_quantize.calibration import Calibrated, calibrate, tune
from mbcompress_quantize.correction import correct_biases
from mbcompress_quantize.equalization import equalize_cross_layer
from mbcompress_quantize.fake_quantize import REDUCED_LIMIT, WEIGHT_LIMIT
from mbcompress_quantize.graph import FakeQuantized, canonical_graph
from mbcompress_quantize.layers import find_layers
from mbcompress_quantize.posttraining import PostTrainer
from mbcompress_quantize.saturation import adds_in_16_bits, find_saturating, pair_sums
from mbcompress_quantize.scheme import Scheme
from mbcompress_quantize.sensitivity import Switches
from numpy.typing import NDArray
from torch import Tensor, nn
from toys import Lines

from mbcompress import MbcompressError
from mbcompress.graph import copy_model
from mbcompress.registry.discovery import Registry
from mbcompress.training import Score

IMAGES = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SOURCES = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")


def fake_quantized(graph: Any, scheme: Scheme) -> FakeQuantized:
    return FakeQuantized(graph, scheme, calibrate(graph, scheme, [IMAGES]).ranges)


@pytest.mark.parametrize("scheme", [Scheme("minmax"), Scheme("kl"), Scheme("minmax", symmetric=True)], ids=str)
def test_the_fake_quantized_network_is_the_converted_one_to_the_last_bit(
    tiny_model: Callable[..., Any], scheme: Scheme
) -> None:
    """So that choices on the validation split are choices between converted networks."""
    fake = fake_quantized(canonical_graph(tiny_model("mobilenet_v3_small"), IMAGES[:2], "test"), scheme)
    with torch.no_grad():
        expected = fake(IMAGES)
        assert torch.equal(fake.convert()(IMAGES), expected)


def test_neural_compressors_trial_is_the_network_that_becomes_the_result(tiny_model: Callable[..., Any]) -> None:
    graph = canonical_graph(tiny_model("mobilenet_v2"), IMAGES[:2], "test")
    answers: list[torch.Tensor] = []

    def score(model: torch.nn.Module) -> Score:
        with torch.no_grad():
            answers.append(model(IMAGES))
        return Score(len(answers), 0.0, 10)

    schemes = [Scheme("minmax"), Scheme("kl"), Scheme("kl", float_layers=frozenset({"classifier.1"}))]
    tried = tune(graph, schemes, [IMAGES], score, float_top1=0.9, target_top1=2.0)
    assert [found.scheme for found, _ in tried] == schemes
    assert [result.correct for _, result in tried] == [2, 3, 4]  # the float graph came first
    with torch.no_grad():
        torch.testing.assert_close(answers[0], graph(IMAGES), rtol=0, atol=0)
        for (found, _), expected in zip(tried, answers[1:], strict=True):
            fake = FakeQuantized(graph, found.scheme, found.ranges)
            assert torch.equal(fake(IMAGES), expected)


def test_trials_end_with_the_first_that_is_good_enough(tiny_model: Callable[..., Any]) -> None:
    graph = canonical_graph(tiny_model("mobilenet_v1"), IMAGES[:2], "test")
    scores = iter([Score(9, 0.0, 10), Score(7, 0.0, 10), Score(8, 0.0, 10), Score(9, 0.0, 10)])
    schemes = [Scheme(), Scheme("kl"), Scheme(symmetric=True)]
    tried = tune(graph, schemes, [IMAGES], lambda model: next(scores), float_top1=0.9, target_top1=0.8)
    assert [score.correct for _, score in tried] == [7, 8]


def test_neural_compressor_says_nothing(
    tiny_model: Callable[..., Any], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    graph = canonical_graph(tiny_model("mobilenet_v1"), IMAGES[:2], "test")
    tune(graph, [Scheme()], [IMAGES], lambda model: Score(1, 0.0, 10), float_top1=0.1, target_top1=2.0)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("neural")]
    assert logging.root.manager.disable == 0


def test_importing_neural_compressor_leaves_no_trace(tmp_path: Path) -> None:
    code = (
        "import logging, os, torch; from mbcompress_quantize.calibration import load_compressor; load_compressor(); "
        "assert not {'LOGLEVEL', 'LOG_LEVEL_INC'} & set(os.environ); assert logging.root.manager.disable == 0"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOG")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environment, "HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", SOURCES)
def test_every_convolution_is_int8_but_those_that_stay_float(
    registry: Registry, tiny_model: Callable[..., Any], tmp_path: Path, source: str
) -> None:
    graph = canonical_graph(tiny_model(source), IMAGES[:2], "test")
    names = [name for name, layer in find_layers(graph).items() if "conv2d" in layer.nodes[0].name]
    spared = frozenset(names[1:3])
    runtime = registry.runtimes.build("onnx", {}, registry)
    path = tmp_path / "model.onnx"
    runtime.export(fake_quantized(graph, Scheme(float_layers=spared)).convert(), (3, 32, 32), path)
    assert runtime.convolutions(path) == (len(names), len(names) - 2)


def test_a_layer_that_is_switched_off_is_one_that_stays_float(tiny_model: Callable[..., Any]) -> None:
    """The figures of the analysis are those of the networks that fallback would give."""
    graph = canonical_graph(tiny_model("mobilenet_v2"), IMAGES[:2], "test")
    scheme = Scheme()
    found = calibrate(graph, scheme, [IMAGES])
    fake = FakeQuantized(graph, scheme, found.ranges)
    switches = Switches(fake)
    with torch.no_grad():
        for name in ("features.0.0", "features.3.conv.1.0", "classifier.1"):
            spared = Scheme(float_layers=frozenset({name}))
            real = FakeQuantized(graph, spared, calibrate(graph, spared, [IMAGES]).ranges)
            switches.all_but(find_layers(fake.captured)[name].own)
            torch.testing.assert_close(fake(IMAGES), real(IMAGES), rtol=1e-5, atol=1e-5)
        switches.only(())
        torch.testing.assert_close(fake(IMAGES), graph(IMAGES), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_autotune_leaves_the_harmed_layer_in_float(registry: Registry, make_context: Callable[..., Any]) -> None:
    options = {"width": 0.5, "strides_removed": 1, "weights": "zoo:mobilenet_v1_digits"}
    model = registry.build_model({"source": "mobilenet_v1", "num_classes": 10, "input_size": 32, **options}).load()
    convolution = model.get_submodule("features.3.1.0")
    with torch.no_grad():  # one dead channel of input with a huge weight: harmless in float, the rest is lost in int8
        model.get_submodule("features.3.0.1").weight[0] = 0
        model.get_submodule("features.3.0.1").bias[0] = -1
        convolution.weight[:, 0] = 300 * convolution.weight.abs().amax((1, 2, 3))[:, None, None]
    told = Lines()
    context = make_context(model.eval(), progress=told)
    plain = registry.passes.build("ptq", {"algorithm": "minmax"}, registry)
    plain.apply(model, context)
    assert context.metrics["ptq_top1"] < context.metrics["float_top1"] - 0.05
    tuned = {"algorithm": "minmax", "autotune": {"accuracy_drop": 2.0, "max_trials": 2}}
    registry.passes.build("ptq", tuned, registry).apply(model, context)
    assert context.metrics["float_layers"] == 1
    assert context.metrics["budget_met"] == 1
    assert context.metrics["ptq_top1"] >= context.metrics["float_top1"] - 0.02
    rows = [line.split(",") for line in context.files["quantization.csv"].splitlines()[3:]]
    assert max(rows, key=lambda row: float(row[3]))[0] == "features.3.1.0"
    assert context.files["quantization.svg"].startswith("<svg")
    hopeless = {"algorithm": "minmax", "autotune": {"accuracy_drop": 2.0, "max_float": 0.0}}
    registry.passes.build("ptq", hopeless, registry).apply(model, context)
    assert context.metrics["budget_met"] == 0
    assert any(line.startswith("ptq: no set of at most 0 float layers reaches ") for line in told.lines)


def test_keep_float_by_pattern_and_a_pattern_that_fits_nothing(
    registry: Registry, tiny_model: Callable[..., Any], make_context: Callable[..., Any]
) -> None:
    model = tiny_model("mobilenet_v1")
    context = make_context(model)
    registry.passes.build("ptq", {"algorithm": "minmax", "keep_float": ["features.1.*"]}, registry).apply(
        model, context
    )
    assert context.metrics["float_layers"] == 2
    wrong = registry.passes.build("ptq", {"keep_float": ["body.*"]}, registry)
    with pytest.raises(MbcompressError, match=r"^ptq: 'keep_float': 'body\.\*' matches no convolution .* features"):
        wrong.apply(model, context)


def test_equalization_keeps_the_function_and_evens_out_ranges() -> None:
    torch.manual_seed(0)
    for activation, largest in ((torch.nn.ReLU(), 1e9), (torch.nn.ReLU6(), 5.9), (torch.nn.Identity(), 1e9)):
        first, last = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 4, 1)
        depthwise = torch.nn.Conv2d(8, 8, 3, groups=8)
        with torch.no_grad():
            first.weight *= torch.logspace(-2, 0, 8)[:, None, None, None]
            first.bias.zero_()
        model = torch.nn.Sequential(first, activation, depthwise, activation, last).eval()
        images = IMAGES.clamp(-largest, largest)
        graph = canonical_graph(model, images[:2], "test")
        even = copy_model(graph)
        assert equalize_cross_layer(even, [images]) == 2
        with torch.no_grad():
            torch.testing.assert_close(even(images), graph(images), rtol=1e-4, atol=1e-5)
            peaks = [activation(layer(images)).abs().amax((0, 2, 3)) for layer in (first,)]
            spread = float(peaks[0].max() / peaks[0].clamp_min(1e-9).min())
            (weight,) = [value for name, value in even.named_parameters() if name == "0.weight"]
            after = torch.nn.functional.conv2d(images, weight).abs().amax((0, 2, 3))
            assert float(after.max() / after.min()) < spread


def test_bias_correction_removes_the_mean_error(tiny_model: Callable[..., Any]) -> None:
    graph = canonical_graph(tiny_model("mobilenet_v2"), IMAGES[:2], "test")
    plain = fake_quantized(graph, Scheme())
    corrected = fake_quantized(graph, Scheme())
    assert correct_biases(corrected, [IMAGES]) == 53
    with torch.no_grad():
        errors = [(model(IMAGES) - graph(IMAGES)).mean(0).abs().max() for model in (plain, corrected)]
    assert errors[1] < 1e-4 < errors[0]


def add_pairs(activations: NDArray[np.uint8], weights: NDArray[np.int8]) -> NDArray[np.int64]:
    """What x86 without VNNI computes: pmaddubsw, which saturates each sum of two products, then a sum in 32 bits.

    Args:
        activations: (N, K) uint8, K even.
        weights: (M, K) int8.

    Returns:
        (N, M).
    """
    products = activations[:, None, :].astype(np.int64) * weights[None].astype(np.int64)
    pairs = products.reshape(*products.shape[:2], -1, 2).sum(-1)
    return np.clip(pairs, -(2**15), 2**15 - 1).sum(-1)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_crafted_layer_saturates_and_seven_bits_do_not(sign: int) -> None:
    layer = torch.nn.Conv2d(16, 4, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(sign * 0.5)
    loud = np.full((1, 16), 255, np.uint8)
    for limit, saturates in ((WEIGHT_LIMIT, True), (REDUCED_LIMIT, False)):
        sums = pair_sums("layer", layer.weight, limit)
        assert sums is not None
        assert sums.saturates == saturates
        integers = np.full((4, 16), sign * limit, np.int8)
        exact = loud.astype(np.int64) @ integers.T.astype(np.int64)
        assert (sums.largest if sign > 0 else sums.least) == 255 * 2 * sign * limit
        assert np.array_equal(add_pairs(loud, integers), exact) != saturates


def test_saturation_is_found_exactly_where_some_image_saturates() -> None:
    """Against the emulation, on the image that is worst for each pair."""
    random = np.random.default_rng(0)
    for scale in (0.2, 1.0, 3.0):
        weight = torch.from_numpy(random.normal(0, scale, (6, 8, 1, 1)).astype(np.float32)).tanh()
        sums = pair_sums("layer", weight)
        assert sums is not None
        integers = (weight.flatten(1) / weight.flatten(1).abs().amax(1, keepdim=True) * 127).round().numpy()
        worst = [255 * (row > 0) for row in integers] + [255 * (row < 0) for row in integers]
        images = np.stack(worst).astype(np.uint8)
        exact = images.astype(np.int64) @ integers.T.astype(np.int64)
        assert (not np.array_equal(add_pairs(images, integers.astype(np.int8)), exact)) == sums.saturates
    assert pair_sums("depthwise", torch.ones(8, 1, 3, 3)) is None


@pytest.mark.parametrize(("flags", "expected"), [("avx2 fma", True), ("avx2 avx512_vnni", False), ("avx_vnni", False)])
def test_processors_are_told_by_their_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: fpu {flags}\n")
    assert adds_in_16_bits(tmp_path / "cpuinfo") is expected
    assert adds_in_16_bits(tmp_path / "absent")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert not adds_in_16_bits(tmp_path / "absent")


@pytest.mark.parametrize(
    ("option", "vnni", "narrow"),
    [("auto", True, False), ("auto", False, True), ("always", True, True), ("never", False, False)],
)
def test_weights_lose_a_bit_where_the_processor_needs_it(
    registry: Registry,
    make_context: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    vnni: bool,
    narrow: bool,
) -> None:
    monkeypatch.setattr(saturation, "adds_in_16_bits", lambda: not vnni)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 10),
    ).eval()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    told = Lines()
    context = make_context(model, progress=told)
    result = registry.passes.build("ptq", {"algorithm": "minmax", "reduce_range": option}, registry).apply(
        model, context
    )
    largest = max(
        int(value.abs().max())
        for value in result.state_dict().values()
        if value.dtype == torch.int8 and value.dim() == 4
    )
    assert largest == (64 if narrow else 127)
    assert context.metrics["saturating_layers"] >= 1
    assert context.files["saturation.csv"].splitlines()[1].startswith("0,0,64770,")
    assert any("can saturate 16-bit sums" in line for line in told.lines) == (narrow or not vnni)


def test_tokens_are_corrected_channel_by_channel() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.mix, self.classifier = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 64), nn.Linear(64, 10)

        def forward(self, images: Tensor) -> Tensor:
            tokens = self.patches(images).flatten(2).transpose(1, 2)  # (N, 64, 8): as many as the layer has outputs
            logits: Tensor = self.classifier(torch.relu(self.mix(tokens)).mean(1))
            return logits

    torch.manual_seed(0)
    model = Tokens().eval()
    with torch.no_grad():
        model.mix.weight[::2] *= 30
    images = torch.rand(64, 3, 32, 32)
    graph = canonical_graph(model, images[:2], "test")
    ranges = calibrate(graph, Scheme(), [images]).ranges
    plain, corrected = (FakeQuantized(graph, Scheme(), ranges) for _ in range(2))
    assert correct_biases(corrected, [images]) == 3
    with torch.no_grad():
        wanted = model(images).mean(0)
        errors = [(each(images).mean(0) - wanted).abs().max() for each in (plain, corrected)]
    assert errors[1] < 0.1 * errors[0]


def test_layers_that_saturate_once_equalized_get_fewer_bits(make_context: Callable[..., Any]) -> None:
    """Equalization moves weights: a layer that could not exceed 16 bits before may do so after it."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU())
    model.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)]).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        model[0].weight.uniform_(0, 1)
        model[0].weight[1::2] *= 4
        model[0].bias.zero_()
        model[2].weight.copy_(torch.tensor([0.9, 0.9 / 127, 0.45, 0.45]).repeat(4, 1)[..., None, None])
        model[6].weight.copy_(torch.tensor([1.0, -1.0, 1.0, -1.0]).repeat(10, 1))
    context = make_context(model)
    options = Ptq(algorithm="minmax", reduce_range="always", equalize=True)
    trainer = PostTrainer(model, context, options, "ptq")
    assert "2" not in trainer._reduce_range_layers()
    trainer._report = lambda *_: None
    equalized, _ = trainer._equalize(Scheme(), *trainer._choose(Scheme()))
    assert "2" in {each.name for each in find_saturating(trainer.graph)}
    assert "2" in equalized.scheme.reduce_range_layers


def test_layers_that_saturate_are_found_behind_fake_quantization(
    tiny_model: Callable[..., Any], make_context: Callable[..., Any]
) -> None:
    """Trained weights are read behind the modules that round them."""
    model = tiny_model("mobilenet_v2")
    context = make_context(model)
    graph = canonical_graph(model, context.example(2), "test")
    spared = next(iter(find_layers(graph)))
    scheme = Scheme(float_layers=frozenset({spared}), reduce_range_layers=frozenset(find_layers(graph)))
    fake = FakeQuantized(graph, scheme, calibrate(graph, scheme, [next(context.calibration_batches())]).ranges)
    found = find_saturating(graph)
    assert found[0].name == spared
    assert find_saturating(fake.captured) == found
    saturation.report_saturation(fake.captured, scheme, context, "always", "test")
    assert context.metrics["saturating_layers"] == len(found) - 1
    assert context.metrics["reduce_range_layers"] == len(find_layers(graph)) - 1


def test_the_search_for_layers_in_float_ends_between_too_few_and_enough(
    make_context: Callable[..., Any], tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, wanted = tiny_model("mobilenet_v1"), 11
    options = Ptq(algorithm="minmax", autotune={"accuracy_drop": 0.0, "max_float": 1.0})
    trainer = PostTrainer(model, make_context(model), options, "ptq")
    names, tried = list(find_layers(trainer.graph)), []

    def tune(schemes: list[Scheme], wanted_top1: float) -> list[Any]:
        """As the real one: in order, until one is good enough."""
        found = []
        for scheme in schemes:
            tried.append(len(scheme.float_layers))
            found.append((Calibrated(scheme, {}, []), Score(100 if tried[-1] >= wanted else 0, 0.0, 100)))
            if tried[-1] >= wanted:
                break
        return found

    monkeypatch.setattr(trainer, "_tune", tune)
    trainer.float_score = Score(100, 0.0, 100)
    analysis = SimpleNamespace(ranking=lambda: names)
    found, _ = trainer._autotune(Calibrated(Scheme(), {}, []), Score(0, 0.0, 100), analysis)
    assert tried == [1, 2, 4, 8, 16, 12, 10, 11]
    assert len(found.scheme.float_layers) == 11
