"""The training loop, its losses and its batches."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from mbcompress import (
    Augmentation,
    DistillationConfig,
    Images,
    MbcompressError,
    Normalization,
    TrainingConfig,
    Trait,
    compress,
)
from mbcompress.data.loader import to_float, training_batches
from mbcompress.data.transforms import augment
from mbcompress.errors import TrainingDivergedError
from mbcompress.registry.discovery import Registry
from mbcompress.training import Batch, Callback, CrossEntropy, Distillation, TrainerState, evaluate, fit, update_bn
from mbcompress.training.optim import build_optimizer, build_scheduler

CPU = torch.device("cpu")


class Watching(Callback):
    """Records the weights of every step."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []

    def on_train_batch_end(self, model: nn.Module, state: TrainerState) -> None:
        self.weights.append(model.get_parameter("layer.weight").detach().clone())


class Linear(nn.Module):
    """The smallest classifier of 3x32x32 images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3 * 32 * 32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layer(x.flatten(1))
        return logits


def test_learns_and_reports_scores(make_context: Callable[..., Any]) -> None:
    model = Linear()
    context = make_context(model)
    options = TrainingConfig(epochs=3, lr=0.01)
    history = fit(model, context, options, label="train")
    assert len(history.scores) == 4
    assert history.scores[0].top1 < 0.4
    assert history.scores[history.best].top1 > 0.8
    assert evaluate(model, context.data.validation, context.data.normalization, CPU) == history.scores[history.best]
    assert len(history.losses) == 3
    assert history.losses[0] > history.losses[2] > 0
    header, before, *epochs = context.files["train-curve.csv"].splitlines()
    assert header == "epoch,training loss,validation loss,correct,of"
    assert before.startswith("0,,")
    assert [int(line.split(",")[3]) for line in epochs] == [score.correct for score in history.scores[1:]]
    assert "top-1, % of 144 validation images" in context.files["train-curve.svg"]
    assert not model.training


def test_is_deterministic_by_seed(make_context: Callable[..., Any]) -> None:
    def weights(seed: int) -> torch.Tensor:
        model = Linear()
        options = TrainingConfig(epochs=1, lr=0.01)
        fit(model, make_context(model, seed=seed), options, label="train")
        return model.layer.weight.detach()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_weights_from_before_training_are_kept_when_training_ruins_them(make_context: Callable[..., Any]) -> None:
    model = Linear()
    context = make_context(model)
    good = TrainingConfig(epochs=3, lr=0.01)
    before = fit(model, context, good, label="train")
    state = model.layer.weight.detach().clone()

    def misleading(model: nn.Module, batch: Batch) -> torch.Tensor:
        return cross_entropy(model(batch.images), (batch.labels + 1) % 10)

    history = fit(model, context, good, objective=misleading)
    assert history.best == 0
    assert history.scores[0] == before.scores[before.best]
    assert torch.equal(model.layer.weight, state)


def test_divergence_is_named_with_place_and_advice(make_context: Callable[..., Any]) -> None:
    model = Linear()

    def explosive(model: nn.Module, batch: Batch) -> torch.Tensor:
        return model(batch.images).sum() * torch.inf

    with pytest.raises(TrainingDivergedError, match=r"train: .* not finite in epoch 1, step 1 of 18 .* lower 'lr'"):
        fit(model, make_context(model), TrainingConfig(epochs=1), objective=explosive, label="train")
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "constant"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_schedule_rises_to_the_peak_and_ends_where_it_says(schedule: str, optimizer: str) -> None:
    config = TrainingConfig(schedule=schedule, warmup=0.1, lr=1.0, optimizer=optimizer)
    weights = build_optimizer([Linear()], config)
    scheduler = build_scheduler(weights, config, 100)
    rates = []
    for _ in range(100):
        rates.append(scheduler.get_last_lr()[0])
        weights.step()
        scheduler.step()
    assert max(rates) == pytest.approx(1)
    assert rates[0] < 0.15
    assert rates[-1] == 1 if schedule == "constant" else rates[-1] < 0.02


@pytest.mark.parametrize(("optimizer", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_weight_decay_spares_biases_and_norms(optimizer: str, kind: type) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    built = build_optimizer([model], TrainingConfig(weight_decay=0.1, optimizer=optimizer))
    decayed = {id(p) for group in built.param_groups if group["weight_decay"] for p in group["params"]}
    assert isinstance(built, kind)
    assert decayed == {id(model[0].weight), id(model[2].weight)}


def distillation(teachers: list[nn.Module], context: Any, student: nn.Module | None = None, **options: Any) -> Any:
    return Distillation(student or Linear(), teachers, context, DistillationConfig(**options))


def test_distillation_loss_is_hintons(make_context: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    student, labels = torch.randn(8, 10), torch.randint(10, (8,))
    teacher = Linear()
    images = torch.randn(8, 3, 32, 32)
    temperature, alpha = 3.0, 0.7
    loss = distillation([teacher], make_context(teacher), temperature=temperature, alpha=alpha)
    soft = softmax(teacher(images) / temperature, dim=1)
    divergence = kl_div(log_softmax(student / temperature, dim=1), soft, reduction="batchmean")
    expected = alpha * temperature**2 * divergence + (1 - alpha) * cross_entropy(student, labels)
    torch.testing.assert_close(loss.of_logits(student, Batch(images, labels)), expected)


def test_a_student_equal_to_its_teacher_has_no_soft_loss(make_context: Callable[..., Any]) -> None:
    teacher = Linear()
    images = torch.randn(4, 3, 32, 32)
    loss = distillation([teacher], make_context(teacher), temperature=4.0, alpha=1.0)
    value = loss(teacher, Batch(images, torch.zeros(4).long()))
    assert abs(float(value.detach())) < 1e-6


def test_an_ensemble_teaches_the_mean_of_its_logits(make_context: Callable[..., Any]) -> None:
    one, other, between = Linear(), Linear(), Linear()
    with torch.no_grad():
        other.layer.weight.mul_(-0.5)
        between.layer.weight.copy_((one.layer.weight + other.layer.weight) / 2)
    context = make_context(one)
    batch = Batch(torch.randn(4, 3, 32, 32), torch.zeros(4).long())
    logits = torch.randn(4, 10)
    ensemble = distillation([one, other], context).of_logits(logits, batch)
    torch.testing.assert_close(ensemble, distillation([between], context).of_logits(logits, batch))


def test_teachers_answer_once_to_images_that_never_change(make_context: Callable[..., Any]) -> None:
    class Counting(Linear):
        asked = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.asked += len(x)
            return super().forward(x)

    model = Linear()
    context = make_context(model)
    images = len(context.data.train)
    asked, weights = [], []
    for options in ({}, {"crop_padding": 1}):
        teacher, student = Counting(), Linear()
        settings = TrainingConfig(epochs=3, lr=0.01, batch_size=images, **{"crop_padding": 0, **options})
        with Distillation(student, [teacher], context, DistillationConfig()) as loss:
            fit(student, context, settings, objective=loss)
        asked.append(teacher.asked)
        weights.append(student.layer.weight.detach())
    assert asked == [images, 3 * images]
    teacher = Linear()  # the answers that were kept are those of the right images
    batch = next(
        training_batches(context.data.train, context.data.normalization, Augmentation(), 16, CPU, seed=0, epoch=1)
    )
    assert batch.indices is not None
    logits = torch.randn(16, 10)
    kept = distillation([teacher], context).of_logits(logits, batch)
    torch.testing.assert_close(kept, distillation([teacher], context).of_logits(logits, replace(batch, indices=None)))


@pytest.mark.parametrize("hints", ["features", "attention"])
def test_hints_pull_the_students_maps_towards_the_teachers(
    tiny_model: Callable[..., Any], make_context: Callable[..., Any], hints: str
) -> None:
    """Teacher of another family and other widths; the adapters learn, and nothing of them stays."""
    student = tiny_model("mobilenet_v2", strides_removed=2)
    teacher = tiny_model("mobilenet_v1", strides_removed=2)
    context = make_context(teacher)
    small = replace(context.data, train=context.data.train.take(np.arange(128)))
    context = replace(context, data=small)
    options = TrainingConfig(epochs=4, lr=0.02, batch_size=32)
    config = DistillationConfig(alpha=0.0, hints=hints, hint_weight=10.0)
    names = set(student.state_dict())
    batch = next(training_batches(small.train, small.normalization, Augmentation(), 64, CPU, seed=0, epoch=1))

    def distance(loss: Any) -> float:
        with torch.no_grad():
            student(batch.images)
            loss._run_teachers(batch.images)
            return float(loss._hint_loss())

    with Distillation(student, [teacher], context, config) as loss:
        assert [len(taps.channels) for taps in loss._hints] == [4, 4]  # 32, 16, 8 and 4 pixels
        assert [taps.channels[-1] for taps in loss._hints] == [1280, 256]
        student.train()
        before = distance(loss)
        fit(student, context, options, objective=loss)
        student.train()
        assert distance(loss) < 0.95 * before
    assert set(student.state_dict()) == names
    assert not any(module._forward_hooks for module in (*student.modules(), *teacher.modules()))


def test_normalisation_agrees_with_numpys() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 6), np.uint8)
    normalization = Normalization((0.4, 0.5, 0.6), (0.2, 0.3, 0.1))
    expected = torch.from_numpy(normalization.apply(pixels))
    torch.testing.assert_close(to_float(torch.from_numpy(pixels), normalization), expected)


def test_augmentation_moves_whole_images_and_draws_for_each() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8)
    batch = augment(image.repeat(200, 1, 1, 1), Augmentation(crop_padding=2, flip=True), generator)
    framed = torch.nn.functional.pad(image, (2,) * 4)[0, 0]
    crops = [framed[top : top + 8, left : left + 8] for top in range(5) for left in range(5)]
    allowed = {tuple(c.flatten().tolist()) for crop in crops for c in (crop, crop.flip(1))}
    seen = {tuple(each.flatten().tolist()) for each in batch}
    assert seen <= allowed
    assert len(seen) > 40
    plain = augment(image, Augmentation(), generator)
    assert torch.equal(plain, image)


def test_an_epoch_shows_each_image_once_and_drops_a_short_batch(digits: Any) -> None:
    images = Images(digits.train.pixels[:100], np.arange(100, dtype=np.int64))

    def epoch(number: int, first: int = 0) -> list[Batch]:
        arguments = (images, digits.normalization, Augmentation(crop_padding=2), 32, CPU)
        return list(training_batches(*arguments, seed=0, epoch=number, first=first))

    batches = epoch(1)
    labels = torch.cat([batch.labels for batch in batches])
    assert len(batches) == 3
    assert len(set(labels.tolist())) == 96
    assert labels.tolist() != sorted(labels.tolist())
    assert labels.tolist() != torch.cat([batch.labels for batch in epoch(2)]).tolist()
    for batch, again in zip(batches[2:], epoch(1, first=2), strict=True):  # as after a restart
        assert torch.equal(batch.images, again.images)


def test_test_images_are_out_of_reach_of_passes(digits: Any, make_context: Callable[..., Any]) -> None:
    assert not hasattr(digits.development(), "test")
    assert not hasattr(make_context(Linear()).data, "test")


def test_options_override_the_datasets_augmentation(make_context: Callable[..., Any]) -> None:
    model = Linear()
    context = make_context(model)
    still = replace(context, data=replace(context.data, augmentation=Augmentation()))

    def weights(context: Any, **options: Any) -> torch.Tensor:
        model = Linear()
        settings = TrainingConfig(epochs=1, lr=0.01, **options)
        fit(model, context, settings, label="train")
        return model.layer.weight.detach()

    assert torch.equal(weights(context, crop_padding=0), weights(still))
    assert not torch.equal(weights(context), weights(still))


def test_a_teacher_with_other_classes_is_refused(registry: Any, make_context: Callable[..., Any]) -> None:
    spec = {"source": "mobilenet_v1", "num_classes": 7, "width": 0.25, "input_size": 32}
    context = make_context(Linear())
    with pytest.raises(MbcompressError, match="teacher: has 7 classes, but the model has 10"):
        context.teacher(registry.build_model(spec))


def test_norm_momentum_holds_while_training_only(make_context: Callable[..., Any]) -> None:
    seen = []

    class Normed(Linear):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3, momentum=0.01)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(self.norm.momentum)
            return super().forward(self.norm(x))

    model = Normed()
    context = make_context(model)
    for momentum, expected in ((0.3, 0.3), (None, 0.01)):
        seen.clear()
        options = TrainingConfig(epochs=1, lr=0.001, bn_momentum=momentum)
        fit(model, context, options, label="train")
        assert seen[1] == expected
        assert model.norm.momentum == 0.01


def test_an_average_is_validated_and_kept(make_context: Callable[..., Any]) -> None:
    """What is kept is the mean over steps, by a share that grows to the option's."""
    model, steps = Linear(), Watching()
    context = make_context(model)
    options = TrainingConfig(epochs=1, lr=0.05, schedule="constant", ema=0.3)
    history = fit(model, context, options, callbacks=[steps])
    assert history.best == 1
    assert evaluate(model, context.data.validation, context.data.normalization, CPU) == history.scores[1]
    mean, *others = steps.weights
    for number, weight in enumerate(others, 1):
        share = min(0.3, (1 + number) / (10 + number))
        mean = share * mean + (1 - share) * weight
    torch.testing.assert_close(model.layer.weight.detach(), mean, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(mean, steps.weights[-1], rtol=1e-3)


def test_weights_before_training_count_where_a_constraint_is_met(make_context: Callable[..., Any]) -> None:
    """A loss that misleads ends where it began, whatever the constraint finds out when it begins."""

    class Met(Watching):
        target_reached = False

        def on_train_start(self, model: nn.Module, state: TrainerState) -> None:
            self.target_reached = True

    model = Linear()
    context = make_context(model)
    options = TrainingConfig(epochs=2, lr=0.05)
    assert fit(model, context, options, label="train").best == 2
    before = copy.deepcopy(model.state_dict())
    loss = CrossEntropy()
    history = fit(model, context, options, objective=lambda model, batch: -loss(model, batch), callbacks=[Met()])
    assert history.best == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Auxiliary(Linear):
    """As torchvision's GoogLeNet does."""

    def forward(self, x: torch.Tensor) -> Any:
        logits = super().forward(x)
        return (logits, logits) if self.training else logits


def test_models_that_answer_with_more_than_logits_in_training(tmp_path: Path) -> None:
    recipe = {"data": {"name": "digits"}, "passes": [{"train": {"training": {"epochs": 1}}}], "export": ["onnx"]}
    with pytest.raises(MbcompressError, match=r"train: in training mode the model returns tuple instead of logits"):
        compress(Auxiliary(), recipe, out=tmp_path / "run", input_shape=(3, 32, 32))
    assert list(tmp_path.iterdir()) == []


def test_parts_of_a_batch_make_the_same_step(make_context: Callable[..., Any]) -> None:
    def weights(parts: int) -> torch.Tensor:
        model = Linear()
        options = TrainingConfig(epochs=1, lr=0.01, batch_size=64, grad_accum_steps=parts)
        fit(model, make_context(model), options, label="train")
        return model.layer.weight.detach()

    torch.testing.assert_close(weights(1), weights(3), rtol=1e-4, atol=1e-6)


def test_resolutions_change_what_the_model_sees_and_not_what_is_validated(
    tiny_model: Callable[..., Any], make_context: Callable[..., Any]
) -> None:
    sizes: list[tuple[bool, int]] = []
    model = tiny_model("mobilenet_v1")
    model.register_forward_pre_hook(lambda module, inputs: sizes.append((module.training, inputs[0].shape[-1])))
    options = TrainingConfig(epochs=4, lr=0.01, batch_size=1166, resolutions=(0.5, 1.0))
    fit(model, make_context(model), options, label="train")
    assert [size for training, size in sizes if training] == [16, 16, 32, 32]
    assert {size for training, size in sizes if not training} >= {16, 32}  # both were tried before the first step


def test_a_model_of_one_size_refuses_resolutions(make_context: Callable[..., Any]) -> None:
    options = TrainingConfig(epochs=1, resolutions=(0.5, 1.0))
    with pytest.raises(
        MbcompressError, match=r"train: the model does not accept images of 16x16, which 0\.5 in 'resolutions'"
    ):
        fit(Linear(), make_context(Linear()), options, label="train")


@pytest.mark.parametrize(
    ("kernel", "stride", "size"), [(3, 2, 9), (3, 2, 2), (5, 1, 8), (5, 2, 8), (3, 1, 2), (3, 1, 8)]
)
def test_bf16_gradients_of_depthwise_convolutions_are_those_of_fp32(kernel: int, stride: int, size: int) -> None:
    from mbcompress.training.precision import mixed_precision

    torch.manual_seed(0)
    layer = nn.Conv2d(16, 16, kernel, stride, kernel // 2, groups=16, bias=False)
    with torch.no_grad():
        layer.weight.copy_(layer.weight.bfloat16())
    images = torch.randn(4, 16, size, size).bfloat16().float().requires_grad_()
    found = []
    for precision in ("fp32", "bf16"):
        with mixed_precision(CPU, precision):
            answer = layer(images)
        assert answer.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
        upstream = torch.randn(answer.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
        answer.backward(upstream.to(answer.dtype))
        assert layer.weight.grad is not None
        assert images.grad is not None
        found.append((answer.detach().float(), layer.weight.grad.clone(), images.grad.clone()))
        layer.weight.grad = images.grad = None
    for exact, rounded in zip(*found, strict=True):
        assert float((exact - rounded).norm() / exact.norm()) < 0.01


def test_a_zero_stays_zero_in_a_sparse_model(make_context: Callable[..., Any]) -> None:
    model = Linear()
    zeros = torch.rand_like(model.layer.weight) < 0.5
    with torch.no_grad():
        model.layer.weight[zeros] = 0
    context = make_context(model, traits=frozenset({Trait.FLOAT, Trait.SPARSE}))
    options = TrainingConfig(epochs=1, lr=0.01, ema=0.9)
    assert fit(model, context, options, label="train").best == 1
    assert not model.layer.weight[zeros].any()
    assert model.layer.weight[~zeros].all()


def test_statistics_are_of_whole_batches(make_context: Callable[..., Any]) -> None:
    """A short last batch would weigh as much as the others, and one of a single image has no variance."""
    model = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3))
    context = make_context(model)
    data = replace(context.data, augmentation=Augmentation())
    for count, used in ((257, 256), (700, 512), (100, 100)):
        train = data.train.take(np.arange(count))
        update_bn(model, replace(context, data=replace(data, train=train)))
        mean = data.normalization.apply(train.pixels[:used]).mean((0, 2, 3))
        np.testing.assert_allclose(model[0].running_mean.numpy(), mean, rtol=1e-4, atol=1e-5)


def test_statistics_are_those_of_training(registry: Registry, make_context: Callable[..., Any]) -> None:
    """Weights are used to the augmentation: without it, a network that nobody changed would get other statistics."""
    spec = {"source": "mobilenet_v1", "num_classes": 10, "width": 0.5, "input_size": 32, "strides_removed": 1}
    model = registry.build_model({**spec, "weights": "zoo:mobilenet_v1_digits"}).load()
    context = make_context(model)
    estimated = copy.deepcopy(model)
    update_bn(estimated, context)
    learned = dict(model.named_buffers())
    differences = [
        float(((value - learned[name]).abs() / learned[name]).mean())
        for name, value in estimated.named_buffers()
        if name.endswith("running_var")
    ]
    assert np.mean(differences) < 0.01  # 0.018 on images as they are


def test_parts_of_a_batch_are_as_even_as_can_be() -> None:
    batch = Batch(torch.zeros(65, 3, 2, 2), torch.zeros(65).long())
    assert {len(part.images) for part in batch.parts(32)} == {2, 3}
    assert sum(len(part.images) for part in batch.parts(32)) == 65


def test_hints_without_a_map_in_common_are_refused(make_context: Callable[..., Any]) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    with pytest.raises(
        MbcompressError, match=r"^hints 'attention' compare feature maps of equal height and width, but"
    ):
        distillation([flat], make_context(flat), flat, hints="attention")
