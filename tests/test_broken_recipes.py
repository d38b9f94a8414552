"""Every broken recipe is refused quickly with one exact sentence and exit code 2, and nothing is left behind.

The message for `broken_recipes/NAME.yaml` is in its first line; `{path}` is the file's own path.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import mbcompress_mobilenet
import pytest

from mbcompress.cli import main
from mbcompress.errors import brief

RECIPES = Path(__file__).parent / "broken_recipes"
NAMES = sorted(path.name for path in RECIPES.glob("*.yaml"))
EXPECT = "# expect: "
GOOD = """
model: {source: mobilenet_v2, num_classes: 10, input_size: 32}
data: {name: digits}
passes:
  - train: {training: {epochs: 3}}
  - prune: {target_macs: 0.5, round_to: 16}
  - train: {training: {epochs: 2}}
"""
SLOW = 3.0
"""CPU seconds that a refusal may take on a busy machine; on an idle one it takes well below one."""


@pytest.fixture(autouse=True)
def only_built_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other installed plugins must not appear in the messages."""
    built_in = importlib.metadata.distribution("mbcompress")
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [built_in])


@pytest.fixture(autouse=True)
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One network of half width."""
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "mobilenet_v2_digits.safetensors").touch()
    card = {
        "model": {"source": "mobilenet_v2", "num_classes": 10, "width": 0.5, "input_size": 32},
        "data": {"name": "digits", "test": 0.2, "split_seed": 0, "validation": 0.1},
    }
    (tmp_path / "zoo" / "mobilenet_v2_digits.json").write_text(json.dumps(card))
    monkeypatch.setattr(mbcompress_mobilenet.ZOO, "directory", tmp_path / "zoo")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line that the command prints on standard error."""
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mbcompress: ")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    return err.removeprefix("mbcompress: ").removesuffix("\n")


@pytest.mark.parametrize("name", NAMES)
def test_message(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(RECIPES)
    first = Path(name).read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(EXPECT)
    expected = first.removeprefix(EXPECT).replace("{path}", name)
    before = sorted(RECIPES.iterdir())

    assert refusal(capsys, "validate", name) == expected
    assert refusal(capsys, "run", name, "--out", tmp_path / "out") == expected
    assert [path.name for path in tmp_path.iterdir()] == ["zoo"]
    assert sorted(RECIPES.iterdir()) == before


def test_there_are_many() -> None:
    assert len(NAMES) >= 36


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the recipe is empty; it needs at least 'model', 'data' and 'passes'"),
        (b"# only a remark\n", "the recipe is empty; it needs at least 'model', 'data' and 'passes'"),
        (b"\x89PNG\r\n\x1a\n\x00", "is not UTF-8 text (byte 0), so it is not a recipe"),
        (b"model: caf\xe9\n", "is not UTF-8 text (byte 10), so it is not a recipe"),
        (b"PK\x03\x04\x14\x00", "1: not valid YAML: the character '\\x03' is not allowed"),
        (b"#" * 70_000, "is larger than 64 KiB, so it is not a recipe"),
        (b"[" * 60_000, "nested more than 32 levels deep"),
        (b"a: !" + b"a" * 60_000 + b" x", f"1:4: tags are not supported, got '!{'a' * 100}…'"),
        (b"*" + b"a" * 60_000, f"1:1: not valid YAML: found undefined alias '{'a' * 277}…"),
    ],
    ids=["empty", "comment", "png", "latin1", "zip", "large", "deep", "tag", "alias"],
)
def test_files_that_are_not_recipes(
    content: bytes, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    separator = ":" if problem.startswith("1:") else ": "
    assert refusal(capsys, "validate", path) == f"{path}{separator}{problem}"


def test_no_such_file(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    near, far = good.with_name("goood.yml"), good.with_name("entirely_different.yaml")
    assert refusal(capsys, "validate", near) == f"{near}: no such recipe file; did you mean {str(good)!r}?"
    assert refusal(capsys, "validate", far) == f"{far}: no such recipe file"
    nowhere = good.parent / "no" / "good.yaml"
    assert refusal(capsys, "validate", nowhere) == f"{nowhere}: no such recipe file"


def test_not_a_file(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "validate", good.parent) == f"{good.parent}: is a directory, not a recipe file"
    assert refusal(capsys, "validate", good / "x.yaml") == f"{good / 'x.yaml'}: cannot be read: Not a directory"
    long = good.with_name("x" * 300)
    assert refusal(capsys, "validate", long) == f"{long}: cannot be read: File name too long"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good.chmod(0)
    assert refusal(capsys, "validate", good) == f"{good}: cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("seed", "must be key=value, for example passes.prune.target_macs=0.4"),
        ("=1", "must be key=value, for example passes.prune.target_macs=0.4"),
        ("..=1", "must be key=value, for example passes.prune.target_macs=0.4"),
        ("seed=-1", "seed: must be a whole number from 0 to 4294967295, got -1"),
        ("seed=", "seed: must be a whole number from 0 to 4294967295, got null"),
        (
            "sed=1",
            "sed: unknown key 'sed'; did you mean 'seed'? (known: budget, data, export, measure, metrics, model, passes, seed)",
        ),
        (
            "mesure.rounds=9",
            "mesure: unknown key 'mesure'; did you mean 'measure'? "
            "(known: budget, data, export, measure, metrics, model, passes, seed)",
        ),
        ("seed.x=1", "seed is 0, which has no options inside"),
        ("passes.prune.target_macs=3", "passes[1].prune.target_macs: must be less than 1, got 3"),
        ("passes[1].prune.target_macs=3", "passes[1].prune.target_macs: must be less than 1, got 3"),
        ("passes.1.target_macs=3", "passes[1].prune.target_macs: must be less than 1, got 3"),
        ("passes.prune={target_macs: 3}", "passes[1].prune.target_macs: must be less than 1, got 3"),
        ("passes.prnue.steps=2", "unknown entry of passes 'prnue'; did you mean 'prune'? (known: prune, train)"),
        ("passes.train.epochs=5", "'train' appears more than once; choose one by its position: passes.0 or passes.2"),
        ("passes.3.epochs=5", "passes has 3 entries, so there is no 3"),
        (
            f"{'x' * 5000}=1",
            f"['{'x' * 99}…]: unknown key '{'x' * 99}… (known: budget, data, export, measure, metrics, model, passes, seed)",
        ),
        (f"model.weights={'x' * 5000}", f"model.weights: cannot look for '{'x' * 99}…: File name too long"),
        (f"passes.{'9' * 5000}=5", f"passes has 3 entries, so there is no {'9' * 100}…"),
        ("passes.1.recovery.epochs.x=1", "passes[1].prune.recovery.epochs: must be a whole number, got {'x': 1}"),
        (
            "data.name=digit",
            "data.name: unknown dataset 'digit'; did you mean 'digits'? (known: arrays, cifar10, digits, image_folder, python)",
        ),
        ("model={source: mobilenet_v2, num_classes: 1}", "model.num_classes: must be at least 2, got 1"),
        ("data={name: digits, name: digits}", "the value cannot be used: 'name' is given twice, first on line 1"),
        ("export=[onnx", "the value cannot be used: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("export=" + "[" * 2000, "the value cannot be used: nested more than 32 levels deep"),
        ("data={1: 2}", "data: 'name' is missing (known: arrays, cifar10, digits, image_folder, python)"),
        (
            "passes.0=qat",
            "passes[1]: 'prune' needs a model that is 'float', but after 'qat' it no longer is; "
            "an order that works: prune, train, qat",
        ),
    ],
    ids=lambda text: text[:30],
)
def test_overrides(assignment: str, problem: str, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good.write_text(f"{GOOD}seed: 0\n")
    place = f"{good}:6:5" if assignment == "passes.0=qat" else f"-o {brief(assignment)}"
    assert refusal(capsys, "validate", good, "-o", assignment) == f"{place}: {problem}"


@pytest.mark.parametrize(
    "options",
    [
        ["--quiet"],
        [],
    ],
    ids=["quiet", "bars"],
)
def test_out_is_in_use(options: list[str], good: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    full = tmp_path / "full"
    (full / "earlier").mkdir(parents=True)
    problem = "is not empty; choose another --out, or empty it first"
    before = sorted(tmp_path.rglob("*"))
    for out in (full, good):
        assert refusal(capsys, "run", good, "--out", out, *options) == f"{out}: {problem}"
    below = good / "run"
    assert refusal(capsys, "run", good, "--out", below, *options) == f"{below}: cannot be written: Not a directory"
    assert sorted(tmp_path.rglob("*")) == before


def slowest_recipe() -> str:
    """As many values as fit in the largest file that is read."""
    return "passes: [" + "x," * 32_000 + "]"


def test_a_refusal_is_quick(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text(slowest_recipe())
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "mbcompress", "validate", path], capture_output=True, text=True, check=False
    )
    after = os.times()  # of the processor: the clock would count what else the machine is doing
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"the slowest refusal took {seconds:.2f} s")
    assert done.returncode == 2
    assert done.stderr.endswith("more than 20000 values, counting those that aliases repeat\n")
    assert seconds < SLOW
