"""The training loop, its losses and its batches."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from mbcompress import Augmentation, Images, MbcompressError, Normalization, TrainingOptions
from mbcompress.errors import TrainingDivergedError
from mbcompress.training import distillation_loss, evaluate, fit, label_loss
from mbcompress.training.augmentation import augment
from mbcompress.training.batches import to_float, training_batches

CPU = torch.device("cpu")


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
    options = TrainingOptions(epochs=3, lr=0.01)
    history = fit(model, context, options, label_loss(options), "train")
    assert len(history.scores) == 4
    assert history.scores[0].top1 < 0.4
    assert history.scores[history.best].top1 > 0.8
    assert evaluate(model, context.data.validation, context.data.normalization, CPU) == history.scores[history.best]
    assert not model.training


def test_is_deterministic_by_seed(make_context: Callable[..., Any]) -> None:
    def weights(seed: int) -> torch.Tensor:
        model = Linear()
        options = TrainingOptions(epochs=1, lr=0.01)
        fit(model, make_context(model, seed=seed), options, label_loss(options), "train")
        return model.layer.weight.detach()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_weights_from_before_training_are_kept_when_training_ruins_them(make_context: Callable[..., Any]) -> None:
    model = Linear()
    context = make_context(model)
    good = TrainingOptions(epochs=3, lr=0.01)
    before = fit(model, context, good, label_loss(good), "train")
    state = model.layer.weight.detach().clone()

    def misleading(images: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return cross_entropy(logits, (labels + 1) % 10)

    history = fit(model, context, good, misleading, "train")
    assert history.best == 0
    assert history.scores[0] == before.scores[before.best]
    assert torch.equal(model.layer.weight, state)


def test_divergence_is_named_with_place_and_advice(make_context: Callable[..., Any]) -> None:
    model = Linear()

    def explosive(images: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return logits.sum() * torch.inf

    with pytest.raises(TrainingDivergedError, match=r"train: .* not finite in epoch 1, step 1 of 18 .* lower 'lr'"):
        fit(model, make_context(model), TrainingOptions(epochs=1), explosive, "train")
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "constant"])
def test_schedule_rises_to_the_peak_and_ends_where_it_says(schedule: str) -> None:
    from mbcompress.training.loop import _rate

    rate = _rate(TrainingOptions(schedule=schedule, warmup=0.1), 100)
    rates = [rate(step) for step in range(100)]
    assert max(rates) == 1
    assert rates[0] < 0.15
    assert rates[-1] == 1 if schedule == "constant" else rates[-1] < 0.02


def test_weight_decay_spares_biases_and_norms() -> None:
    from mbcompress.training.loop import _optimizer

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    optimizer = _optimizer(model, TrainingOptions(weight_decay=0.1))
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(model[0].weight), id(model[2].weight)}


def test_distillation_loss_is_hintons() -> None:
    torch.manual_seed(0)
    student, labels = torch.randn(8, 10), torch.randint(10, (8,))
    teacher = Linear()
    images = torch.randn(8, 3, 32, 32)
    temperature, alpha = 3.0, 0.7
    loss = distillation_loss(teacher, temperature, alpha, TrainingOptions())(images, student, labels)
    soft = softmax(teacher(images) / temperature, dim=1)
    divergence = kl_div(log_softmax(student / temperature, dim=1), soft, reduction="batchmean")
    expected = alpha * temperature**2 * divergence + (1 - alpha) * cross_entropy(student, labels)
    torch.testing.assert_close(loss, expected)


def test_a_student_equal_to_its_teacher_has_no_soft_loss() -> None:
    teacher = Linear()
    images = torch.randn(4, 3, 32, 32)
    loss = distillation_loss(teacher, 4.0, 1.0, TrainingOptions())(images, teacher(images), torch.zeros(4).long())
    assert abs(float(loss.detach())) < 1e-6


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

    def epoch(number: int, first: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
        arguments = (images, digits.normalization, Augmentation(crop_padding=2), 32, CPU)
        return list(training_batches(*arguments, seed=0, epoch=number, first=first))

    batches = epoch(1)
    labels = torch.cat([labels for _, labels in batches])
    assert len(batches) == 3
    assert len(set(labels.tolist())) == 96
    assert labels.tolist() != sorted(labels.tolist())
    assert labels.tolist() != torch.cat([labels for _, labels in epoch(2)]).tolist()
    for (pixels, _), (again, _) in zip(batches[2:], epoch(1, first=2), strict=True):  # as after a restart
        assert torch.equal(pixels, again)


def test_test_images_are_out_of_reach_of_passes(digits: Any, make_context: Callable[..., Any]) -> None:
    assert not hasattr(digits.development(), "test")
    assert not hasattr(make_context(Linear()).data, "test")


def test_options_override_the_datasets_augmentation(make_context: Callable[..., Any]) -> None:
    model = Linear()
    context = make_context(model)
    still = replace(context, data=replace(context.data, augmentation=Augmentation()))

    def weights(context: Any, **options: Any) -> torch.Tensor:
        model = Linear()
        settings = TrainingOptions(epochs=1, lr=0.01, **options)
        fit(model, context, settings, label_loss(settings), "train")
        return model.layer.weight.detach()

    assert torch.equal(weights(context, crop_padding=0), weights(still))
    assert not torch.equal(weights(context), weights(still))


def test_a_teacher_with_other_classes_is_refused(catalogue: Any, make_context: Callable[..., Any]) -> None:
    spec = {"source": "mobilenet_v1", "num_classes": 7, "width": 0.25, "input_size": 32}
    context = make_context(Linear())
    with pytest.raises(MbcompressError, match="teacher: answers with 7 classes, the model with 10"):
        context.teacher(catalogue.build_model(spec))


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
        options = TrainingOptions(epochs=1, lr=0.001, norm_momentum=momentum)
        fit(model, context, options, label_loss(options), "train")
        assert seen[1] == expected
        assert model.norm.momentum == 0.01
