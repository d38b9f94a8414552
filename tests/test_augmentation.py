"""Random transforms of batches."""

import pytest
import torch
from torch import Tensor

from mbcompress.data.transforms import COLORS, GEOMETRIC, cutout, mixup, randaugment


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_cutout_blanks_one_square_an_image() -> None:
    images = torch.ones(300, 2, 16, 12)
    changed = cutout(images, 6, generator())
    blank = changed[:, 0] == 0
    assert torch.equal(changed[:, 0], changed[:, 1])
    for square in blank:
        rows, columns = square.any(1).nonzero().flatten(), square.any(0).nonzero().flatten()
        assert 3 <= len(rows) <= 6  # cut off where the square leaves the image
        assert 3 <= len(columns) <= 6
        assert int(square.sum()) == len(rows) * len(columns)
    assert blank.float().mean(0).min() > 0  # no place is spared


def test_mixup_blends_images_and_labels_with_the_same_weight() -> None:
    labels = torch.arange(8)
    images = torch.nn.functional.one_hot(labels, 8).float().view(8, 1, 2, 4)  # an image is its label
    mixed, targets = mixup(images, labels, 1.0, 8, generator(3))
    torch.testing.assert_close(mixed.flatten(1), targets)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    assert 0 < float(targets.amax(1).min()) < 1


def test_weights_of_mixup_follow_the_beta_distribution() -> None:
    alpha = 0.4
    weights = []
    for seed in range(2000):
        _, targets = mixup(torch.zeros(2, 1, 1, 1), torch.tensor([0, 1]), alpha, 2, generator(seed))
        weights.append(float(targets[0, 0]))
    values = torch.tensor([weight for weight in weights if weight < 1])  # 1: an image blended with itself
    assert abs(float(values.mean()) - 0.5) < 0.03
    assert abs(float(values.var()) - 1 / (4 * (2 * alpha + 1))) < 0.015


@pytest.mark.parametrize("transform", [*GEOMETRIC, *COLORS], ids=lambda transform: transform.__name__)
@pytest.mark.parametrize("strength", [-1.0, 0.0, 1.0])
def test_every_transform_keeps_shape_and_range(transform: object, strength: float) -> None:
    images = torch.rand(5, 3, 12, 9, generator=generator())
    changed: Tensor = transform(images, torch.full((5,), strength))  # type: ignore[operator]
    assert changed.shape == images.shape
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1 + 1e-6


@pytest.mark.parametrize("transform", GEOMETRIC, ids=lambda transform: transform.__name__)
def test_geometry_without_strength_changes_nothing(transform: object) -> None:
    images = torch.rand(2, 3, 8, 8, generator=generator())
    torch.testing.assert_close(transform(images, torch.zeros(2)), images, atol=1e-5, rtol=0)  # type: ignore[operator]


def test_equalize_makes_levels_uniform() -> None:
    from mbcompress.data.transforms import _equalize

    images = torch.rand(1, 1, 64, 64, generator=generator()) ** 3
    levels = _equalize(images, torch.ones(1)).flatten().sort().values
    torch.testing.assert_close(levels, torch.linspace(0, 1, 4096), atol=0.15, rtol=0)


def test_randaugment_differs_by_image_and_follows_its_generator() -> None:
    images = torch.rand(1, 3, 16, 16, generator=generator()).repeat(64, 1, 1, 1)
    first = randaugment(images, 2, 15, generator(1))
    assert torch.equal(first, randaugment(images, 2, 15, generator(1)))
    assert len({tuple(image.flatten().tolist()) for image in first}) > 32
    geometric = randaugment(images * 7 - 3, 2, 15, generator(1), colors=False)
    assert float(geometric.max()) <= 4 + 1e-5
