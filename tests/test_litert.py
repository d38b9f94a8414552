"""The environment of LiteRT's converter."""

import subprocess
from pathlib import Path

import pytest
import torch
from mbcompress_litert import environment

from mbcompress import MbcompressError
from mbcompress.contract.progress import Progress


class Heard(Progress):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MBCOMPRESS_CACHE", str(tmp_path))
    return tmp_path


def test_an_environment_that_cannot_be_made_is_one_sentence_and_not_kept(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(place: Path) -> None:
        stderr = (
            "WARNING: x\nERROR: Could not find a version that satisfies litert-torch\nERROR: No matching distribution"
        )
        raise subprocess.CalledProcessError(1, "pip", stderr=stderr)

    monkeypatch.setattr(environment, "_install", refuse)
    heard = Heard()
    expected = "litert: cannot create the converter's environment: Could not find a version that satisfies litert-torch"
    with pytest.raises(MbcompressError) as caught:
        environment.make(heard)
    assert str(caught.value) == expected
    assert heard.lines == [f"litert: installing the converter into {environment.folder()} (once, about 900 MB)"]
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
