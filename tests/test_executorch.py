"""Programs for ExecuTorch with XNNPACK, of float and of int8 networks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from integer_models import Blocks, integer

from mbcompress import MbcompressError, Normalization
from mbcompress.errors import SpecError
from mbcompress.host import Catalogue
from mbcompress.measurement.engine import Engine

IMAGES = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)


@pytest.fixture
def runtime(catalogue: Catalogue) -> Any:
    pytest.importorskip("executorch", reason="ExecuTorch is not installed: pip install 'mbcompress[executorch]'")
    return catalogue.runtimes.build("executorch", {}, catalogue)


def test_missing_executorch_is_named_before_anything_runs(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mbcompress_executorch.INSTALLED", False)
    with pytest.raises(SpecError, match=r"ExecuTorch is not installed.*`pip install mbcompress\[executorch\]`"):
        catalogue.runtimes.build("executorch", {}, catalogue)


def test_a_file_that_is_none_is_one_sentence(runtime: Any, tmp_path: Path) -> None:
    with pytest.raises(MbcompressError, match=r"absent\.pte: no such file"):
        runtime.open(tmp_path / "absent.pte", 1)
    (tmp_path / "bad.pte").write_text("nothing")
    with pytest.raises(MbcompressError, match=r"bad\.pte: ExecuTorch cannot open it: .+"):
        runtime.open(tmp_path / "bad.pte", 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch and torchao, about themselves
def test_a_float_network_answers_as_in_torch(runtime: Any, tmp_path: Path) -> None:
    model = Blocks().eval()
    path = tmp_path / "model.pte"
    runtime.export(model, (3, 32, 32), path)
    with torch.no_grad():
        expected = model(torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_allclose(runtime.open(path, 1).run(IMAGES), expected, rtol=1e-3, atol=1e-4)
    assert runtime.convolutions(path) == (7, 0)
    assert runtime.zero_weights(path) is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_convolution_of_an_int8_network_is_one_in_xnnpack(runtime: Any, tmp_path: Path) -> None:
    model = integer(Blocks())
    path = tmp_path / "model.pte"
    runtime.export(model, (3, 32, 32), path)
    np.save(tmp_path / "images.npy", IMAGES)
    with torch.no_grad():
        expected = model(torch.from_numpy(IMAGES)).numpy()
    with Engine(runtime, path, (3, 32, 32), threads=1) as engine:
        assert engine.runtime.startswith("ExecuTorch 1.")
        logits = engine.predict(tmp_path / "images.npy", Normalization.identity(3))
        assert engine.convolutions() == (7, 7)
    assert np.abs(logits - expected).max() < 0.05 * np.abs(expected).max()
