"""LiteRT files, and the environment of their converter; what converts runs only where that environment is there."""

import subprocess
from pathlib import Path
from typing import Any

import mbcompress_litert
import numpy as np
import pytest
import torch
from integer_models import Blocks, integer
from mbcompress_litert import environment

from mbcompress import MbcompressError, Normalization
from mbcompress.errors import SpecError
from mbcompress.host import Catalogue
from mbcompress.measurement.engine import Engine
from mbcompress.progress import Progress

IMAGES = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
converts = pytest.mark.skipif(not environment.is_ready(), reason="the converter's environment has not been made")


class Heard(Progress):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def runtime(catalogue: Catalogue) -> Any:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed: pip install 'mbcompress[litert]'")
    return catalogue.runtimes.build("litert", {}, catalogue)


def test_missing_litert_is_named_before_anything_runs(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mbcompress_litert, "INSTALLED", False)
    with pytest.raises(SpecError, match=r"LiteRT is not installed; it comes with `pip install mbcompress\[litert\]`"):
        catalogue.runtimes.build("litert", {}, catalogue)


def test_a_file_that_is_none_is_one_sentence(runtime: Any, tmp_path: Path) -> None:
    with pytest.raises(MbcompressError, match=r"absent\.tflite: no such file"):
        runtime.open(tmp_path / "absent.tflite", 1)
    (tmp_path / "bad.tflite").write_text("nothing")
    with pytest.raises(MbcompressError, match=r"bad\.tflite: LiteRT cannot open it: .+"):
        runtime.open(tmp_path / "bad.tflite", 1)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MBCOMPRESS_CACHE", str(tmp_path))
    return tmp_path


def test_an_environment_that_cannot_be_made_is_one_sentence_and_not_kept(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(place: Path) -> None:
        said = (
            "WARNING: x\nERROR: Could not find a version that satisfies litert-torch\nERROR: No matching distribution"
        )
        raise subprocess.CalledProcessError(1, "pip", stderr=said)

    monkeypatch.setattr(environment, "_install", refuse)
    heard = Heard()
    expected = (
        "litert: the converter's environment cannot be made: Could not find a version that satisfies litert-torch"
    )
    with pytest.raises(MbcompressError) as caught:
        environment.make(heard)
    assert str(caught.value) == expected
    assert heard.lines == [f"litert: its converter is installed once, about 900 MB, into {environment.folder()}"]
    assert not environment.is_ready()


def test_an_environment_is_made_once_and_sees_our_packages(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_install", lambda place: None)
    heard = Heard()
    python = environment.make(heard)
    assert environment.make(heard) == python
    assert len(heard.lines) == 1
    seen = subprocess.run(
        [python, "-c", "import importlib.util as u; print(u.find_spec('torch').origin)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(seen.stdout.strip()) == Path(torch.__file__)


def test_the_environment_belongs_to_its_requirements(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = environment.folder()
    (tmp_path / "other.txt").write_text("litert-torch==99\n")
    monkeypatch.setattr(environment, "REQUIREMENTS", tmp_path / "other.txt")
    assert environment.folder() != before


@converts
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch and torchao, about themselves
def test_a_float_network_answers_as_in_torch(runtime: Any, tmp_path: Path) -> None:
    model = Blocks().eval()
    path = tmp_path / "model.tflite"
    runtime.export(model, (3, 32, 32), path)
    with torch.no_grad():
        expected = model(torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_allclose(runtime.open(path, 1).run(IMAGES), expected, rtol=1e-3, atol=1e-4)
    assert runtime.convolutions(path) == (7, 0)


@converts
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_convolution_of_an_int8_network_is_int8(runtime: Any, tmp_path: Path) -> None:
    model = integer(Blocks())
    path = tmp_path / "model.tflite"
    runtime.export(model, (3, 32, 32), path)
    np.save(tmp_path / "images.npy", IMAGES)
    with torch.no_grad():
        expected = model(torch.from_numpy(IMAGES)).numpy()
    with Engine(runtime, path, (3, 32, 32), threads=1) as engine:
        assert engine.runtime.startswith("LiteRT 2.")
        logits = engine.predict(tmp_path / "images.npy", Normalization.identity(3))
        assert engine.convolutions() == (7, 7)
        total, zero = engine.zero_weights() or (0, 0)
        assert 0 < zero < 0.05 * total
    assert np.abs(logits - expected).max() < 0.05 * np.abs(expected).max()
    parameters = sum(weight.numel() for weight in model.state_dict().values())
    assert path.stat().st_size < 2.5 * parameters  # a float classifier, or float weights, would show
