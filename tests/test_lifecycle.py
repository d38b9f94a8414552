"""Listeners are told how a run goes, in order, each with what it needs; none can disturb the run or the others."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from plugin_packages import Install
from toys import DIARY, MODEL, Lines
from toys import toy as toy

import mbcompress
from mbcompress.pipeline.notifier import Notifier
from mbcompress.registry.discovery import discover

PASSES = [{"prune": {"target_macs": 0.8}}, {"prune": {"target_macs": 0.6}}]
RAISES = """
@mbcompress.hookimpl
def mbcompress_run_started(run):
    raise ValueError("no paper\\nand no ink")


@mbcompress.hookimpl
def mbcompress_pass_finished(index):
    if index == 2:
        raise SystemExit(7)


@mbcompress.hookimpl
def mbcompress_run_finished():
    raise mbcompress.MbcompressError("the book is full")


@mbcompress.hookimpl
def mbcompress_run_failed(error):
    raise error
"""
Notices = list[tuple[Any, ...]]
Recipe = dict[str, Any]


@pytest.fixture
def diary(install: Install) -> Notices:
    """What a listener has noted."""
    install("mb-diary", DIARY, plugin="diary")
    discover()
    notices: Notices = sys.modules["mb_diary"].notices
    return notices


def test_a_run_is_told_from_start_to_end(diary: Notices, toy: Recipe, tmp_path: Path) -> None:
    result = mbcompress.compress(None, {**toy, "passes": PASSES}, out=tmp_path / "run")
    assert [notice[0] for notice in diary] == ["started", "pass finished", "pass finished", "finished"]
    run = diary[0][1]
    assert all(notice[1] is run for notice in diary)
    assert run.name == "recipe"
    assert run.recipe == yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert run.environment == json.loads((tmp_path / "run" / "environment.json").read_text())
    for number, notice in enumerate(diary[1:3], start=1):
        step = json.loads((tmp_path / "run" / "passes" / f"{number:02}-prune" / "metrics.json").read_text())
        assert notice[2:] == (number, step["name"], step["metrics"], step["seconds"])
    assert diary[2][4]["macs"] < diary[1][4]["macs"]
    *_, name, directory, files = diary[3]
    assert (name, directory) == ("recipe", tmp_path / "run")
    assert {"baseline.npy", "manifest.json", "model.npy", "recipe.yaml", "report.html", "report.json"} <= set(files)
    # the diary cleared what it was given
    assert result.report == json.loads((tmp_path / "run" / "report.json").read_text())
    assert result.report["passes"][1]["metrics"]["macs"] == diary[2][4]["macs"]


def test_every_run_has_an_id_of_its_own(diary: Notices, toy: Recipe, tmp_path: Path) -> None:
    for name in ("one", "two"):
        with pytest.raises(mbcompress.MbcompressError):
            mbcompress.compress(None, {**toy, "passes": [], "model": {**MODEL, "num_classes": 7}}, out=tmp_path / name)
    assert [notice[0] for notice in diary] == ["started", "failed", "started", "failed"]
    assert diary[0][1].id == diary[1][1].id != diary[2][1].id


def test_a_failure_is_told_with_its_error(diary: Notices, toy: Recipe, tmp_path: Path) -> None:
    impossible = {**toy, "passes": [{"prune": {"target_macs": 0.8}}, {"prune": {"target_macs": 0.001}}]}
    with pytest.raises(mbcompress.MbcompressError, match="cannot be reached") as raised:
        mbcompress.compress(None, impossible, out=tmp_path / "run")
    assert [notice[0] for notice in diary] == ["started", "pass finished", "failed"]
    assert diary[2][2] is raised.value
    assert not (tmp_path / "run").exists()


def test_an_interrupt_is_told_too(diary: Notices, toy: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mbcompress.pipeline.executor.evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mbcompress.compress(None, {**toy, "passes": PASSES}, out=tmp_path / "run")
    assert [notice[0] for notice in diary] == ["started", "failed"]
    assert isinstance(diary[1][2], KeyboardInterrupt)


def test_a_recipe_with_a_mistake_is_no_run(diary: Notices, toy: Recipe, tmp_path: Path) -> None:
    with pytest.raises(mbcompress.RecipeError):
        mbcompress.compress(None, {**toy, "passes": ["prnue"]}, out=tmp_path / "run")
    assert diary == []


def test_a_listener_that_raises_is_named_and_the_run_goes_on(
    diary: Notices, toy: Recipe, tmp_path: Path, install: Install
) -> None:
    install("mb-raises", RAISES, plugin="raises")
    progress = Lines()
    result = mbcompress.compress(None, {**toy, "passes": PASSES}, out=tmp_path / "run", progress=progress)
    assert (result.path / "report.json").exists()
    assert len(diary) == 4
    whose = "plugin 'raises' of mb-raises 1.2"
    assert progress.lines == [
        f"{whose}: mbcompress_run_started failed, continuing without it: ValueError: no paper",
        f"{whose}: mbcompress_pass_finished failed, continuing without it: SystemExit: 7",
        f"{whose}: mbcompress_run_finished failed, continuing without it: the book is full",
    ]


def test_a_listener_that_raises_at_a_failure_does_not_hide_it(
    diary: Notices, toy: Recipe, tmp_path: Path, install: Install
) -> None:
    install("mb-raises", RAISES, plugin="raises")
    with pytest.raises(mbcompress.MbcompressError, match="but the model has 7 outputs"):
        mbcompress.compress(None, {**toy, "passes": [], "model": {**MODEL, "num_classes": 7}}, out=tmp_path / "run")
    assert [notice[0] for notice in diary] == ["started", "failed"]


def test_a_listener_with_an_argument_that_nobody_gives(
    diary: Notices, toy: Recipe, tmp_path: Path, install: Install
) -> None:
    wrong = "@mbcompress.hookimpl\ndef mbcompress_run_started(run, weather):\n    pass\n"
    install("mb-wrong", wrong, plugin="wrong")
    registry = discover()
    assert [broken.origin.plugin for broken in registry.broken] == ["wrong"]
    assert "weather" in registry.broken[0].reason
    assert [origin.plugin for origin, _ in registry.listeners["mbcompress_run_started"]][-1] == "diary"
    assert diary == []


def test_built_in_listeners_keep_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tracked, imported or written where nobody has asked for it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    progress = Lines()
    environment = {"libraries": {"mbcompress": "0.1.0"}}
    notifier = Notifier(discover().listeners, mbcompress.Run("quiet", {}, environment), progress)
    with notifier.running():
        notifier.pass_finished(1, "prune", {"macs": 1}, 0.1)
    notifier.finished({}, tmp_path)
    assert progress.lines == []
    assert list(tmp_path.iterdir()) == []
