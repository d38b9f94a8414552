"""The bundled weights are what their cards say."""

from typing import Any

import pytest
from mbcompress_mobilenet import ZOO

from mbcompress import Images
from mbcompress.files import sha256
from mbcompress.host import Catalogue


@pytest.mark.parametrize("name", ZOO.names())
def test_card_and_weights_agree(catalogue: Catalogue, digits: Any, name: str) -> None:
    import torch

    from mbcompress.training import evaluate

    card = ZOO.card(name)
    path = ZOO.locate(f"zoo:{name}")
    assert card["sha256"] == sha256(path)
    assert card["bytes"] == path.stat().st_size
    assert card["data"]["sha256"] == digits.fingerprint()
    model = catalogue.build_model({**card["model"], "weights": f"zoo:{name}"}).load()
    test: Images = digits.test
    score = evaluate(model, test, digits.normalization, torch.device("cpu"))
    assert score.count == card["top1"]["n"]
    assert abs(score.correct - card["top1"]["k"]) <= 1  # weights were rounded to half precision


def test_there_are_weights_to_check() -> None:
    assert len(ZOO.names()) >= 3


def test_weights_for_another_width_are_refused(catalogue: Catalogue) -> None:
    from mbcompress.errors import SpecError

    name = ZOO.names()[0]
    with pytest.raises(SpecError, match=r"were trained with width 0\.5, got 0\.75"):
        catalogue.build_model({**ZOO.card(name)["model"], "width": 0.75, "weights": f"zoo:{name}"})
