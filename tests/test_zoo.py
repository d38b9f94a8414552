"""The bundled weights are what their cards say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mbcompress_mobilenet
import mbcompress_resnet
import numpy as np
import pytest
from mbcompress_data import cifar10

from mbcompress import Splits
from mbcompress.contract.zoo import Zoo
from mbcompress.files import sha256
from mbcompress.recipe import from_mapping, resolve
from mbcompress.recipe.checks import leakage_warnings
from mbcompress.registry.discovery import Registry

ZOOS = (mbcompress_mobilenet.ZOO, mbcompress_resnet.ZOO)
BUNDLED = [(zoo, name) for zoo in ZOOS for name in zoo.names()]
MOST_BYTES = {"cifar10": 25_000_000, "digits": 8_000_000}


def by_data(dataset: str) -> list[Any]:
    found = [(zoo, name) for zoo, name in BUNDLED if zoo.card(name)["data"]["name"] == dataset]
    return [pytest.param(zoo, name, id=name) for zoo, name in found]


@pytest.mark.parametrize(("zoo", "name"), BUNDLED)
def test_the_card_describes_the_file(zoo: Zoo, name: str) -> None:
    card, path = zoo.card(name), zoo.locate(f"zoo:{name}")
    assert (card["sha256"], card["bytes"]) == (sha256(path), path.stat().st_size)
    assert Path(__file__).parent.parent.joinpath(card["recipe"]).is_file()


@pytest.mark.parametrize(("zoo", "name"), by_data("digits"))
def test_accuracy_on_digits(registry: Registry, digits: Any, zoo: Zoo, name: str) -> None:
    check_accuracy(registry, digits, zoo, name)


@pytest.mark.cifar10
@pytest.mark.skipif(not cifar10.default_path().is_dir(), reason="CIFAR-10 is not there")
@pytest.mark.parametrize(("zoo", "name"), by_data("cifar10"))
def test_accuracy_on_cifar10(registry: Registry, monkeypatch: pytest.MonkeyPatch, zoo: Zoo, name: str) -> None:
    monkeypatch.delenv("MBCOMPRESS_CACHE")  # the user's own has the decoded images
    data = registry.build_dataset({"name": "cifar10", "validation": 0.05}).load((3, 32, 32), 0)
    check_accuracy(registry, data, zoo, name)


def check_accuracy(registry: Registry, data: Splits, zoo: Zoo, name: str) -> None:
    import torch

    from mbcompress.training import evaluate

    card = zoo.card(name)
    assert card["data"]["sha256"] == data.fingerprint()
    model = registry.build_model({**card["model"], "weights": f"zoo:{name}"}).load()
    score = evaluate(model, data.test, data.normalization, torch.device("cpu"))
    assert score.count == card["top1"]["n"]
    assert abs(score.correct - card["top1"]["k"]) <= score.count / 1000 + 1  # weights were rounded to half precision


def test_a_different_order_of_images_is_reported(registry: Registry, digits: Splits) -> None:
    """The same options split them differently, and the weights may have been trained on validation images."""
    zoo, name = next((zoo, name) for zoo, name in BUNDLED if zoo.card(name)["data"]["name"] == "digits")
    model = {**zoo.card(name)["model"], "weights": f"zoo:{name}"}
    spec = {"model": model, "data": {"name": "digits"}, "passes": []}
    recipe = resolve(from_mapping(spec), registry)
    assert list(leakage_warnings(recipe, digits)) == []
    moved = replace(digits, train=digits.train.take(np.arange(len(digits.train))[::-1]))
    (sentence,) = leakage_warnings(recipe, moved)
    assert "differ from those that the model's weights were trained on; the validation split may contain" in sentence
    fewer = resolve(from_mapping({**spec, "data": {"name": "digits", "validation": 0.05}}), registry)
    assert list(leakage_warnings(fewer, moved)) == []


def test_bundled_weights_exist_and_stay_small() -> None:
    assert len(BUNDLED) >= 5
    for data, most in MOST_BYTES.items():
        sizes = [zoo.locate(f"zoo:{name}").stat().st_size for zoo, name in BUNDLED if name.endswith(f"_{data}")]
        assert 0 < sum(sizes) < most


def test_weights_for_another_width_are_refused(registry: Registry) -> None:
    from mbcompress.errors import SpecError

    name = "mobilenet_v1_digits"
    with pytest.raises(SpecError, match=r"were trained with width 0\.5, got 0\.75"):
        registry.build_model({**mbcompress_mobilenet.ZOO.card(name)["model"], "width": 0.75, "weights": f"zoo:{name}"})
