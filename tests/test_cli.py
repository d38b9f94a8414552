"""The command line: what it says of itself, what `passes` lists, and that all of it answers without torch."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mbcompress.cli import main
from mbcompress.registry.discovery import Registry

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "train_v2_digits.yaml"
HEAVY = ("torch", "torchao", "torch_pruning", "onnx", "onnxruntime", "matplotlib", "scipy", "PIL")


def run(*arguments: str | Path, code: str | None = None) -> "subprocess.CompletedProcess[str]":
    """A process of its own; `code` runs before the command."""
    program = ["-m", "mbcompress"] if code is None else ["-c", code]
    command = [sys.executable, *program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Standard output of a command that ends well and has nothing to complain of."""
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def ended(*arguments: str) -> Any:
    """Exit code of a command that argparse ends."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert not ended("--version")
    assert capsys.readouterr().out == f"mbcompress {importlib.metadata.version('mbcompress')}\n"


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert not ended("--help")
    text = " ".join(capsys.readouterr().out.split())
    for command in ("run run a recipe", "validate check", "passes list", "plugins list", "plugin create"):
        assert command in text
    assert (
        "0 success, 1 a bug in mbcompress or a plugin, 2 bad input or no space left, 3 a limit of the recipe's "
        "budget was missed, 130 and 143 interrupted" in text
    )


@pytest.mark.parametrize("command", ["run", "validate", "passes", "plugins", "plugin"])
def test_help_of_commands(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not ended(command, "--help")
    assert capsys.readouterr().out.startswith(f"usage: mbcompress {command} ")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["compress"], "invalid choice: 'compress'"),
        (["run"], "the following arguments are required: RECIPE"),
        (["run", "r.yaml", "--device", "tpu"], "invalid choice: 'tpu' (choose from 'auto', 'cpu', 'cuda', 'mps')"),
        (["validate", "r.yaml", "-o"], "expected one argument"),
        (["passes", "prune", "qat"], "unrecognized arguments: qat"),
    ],
)
def test_wrong_usage(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(*arguments) == 2
    assert problem in capsys.readouterr().err


def test_validate(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "validate", str(RECIPE)) == f"{RECIPE}: fine: mobilenet_v2 -> train -> onnx\n"


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_that_ship_are_fine(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "validate", str(recipe)).startswith(f"{recipe}: fine: ")


def test_passes_shows_everything(capsys: pytest.CaptureFixture[str], registry: Registry) -> None:
    text = said(capsys, "passes")
    for kind in registry.kinds:
        for cls, origin in kind:
            assert f"{kind.name} {cls.name}  ({origin.distribution} {origin.version})\n" in text
            assert f"    {cls.summary()}\n" in text


def test_passes_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "passes", "prune").splitlines()
    assert lines[0] == f"pass prune  (mbcompress {importlib.metadata.version('mbcompress')})"
    assert "    criterion: 'l1' | 'l2' | 'bn_scale' | 'taylor' | 'random' = \"l1\"" in lines
    assert "    target_macs: float | null = null  [> 0, < 1]" in lines
    assert "        Largest ratio to the baseline's MACs." in lines
    assert "    round_to: int | null = null  [>= 1, <= 256]" in lines
    assert not any(line.startswith("pass distill") for line in lines)
    assert all(len(line) <= 120 for line in lines)


def test_required_options_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "    path: Path (required)\n" in said(capsys, "passes", "image_folder")


def test_passes_nonsense(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", "prnue"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(
        "mbcompress: unknown component 'prnue'; did you mean 'prune'? (known: agreement, aotinductor, "
    )


def test_passes_as_json(capsys: pytest.CaptureFixture[str], registry: Registry) -> None:
    components = json.loads(said(capsys, "passes", "--json"))
    assert {entry["kind"] for entry in components} == {"pass", "model source", "dataset", "runtime", "metric"}
    prune = next(entry for entry in components if entry["name"] == "prune")
    assert set(prune) == {"kind", "name", "summary", "distribution", "version", "options"}
    assert {option["name"] for option in prune["options"]} == set(registry.passes.classes["prune"].model_fields)
    assert json.loads(said(capsys, "passes", "prune", "--json")) == [prune]


def test_every_built_in_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    for entry in json.loads(said(capsys, "passes", "--json")):
        assert entry["summary"].endswith("."), entry["name"]
        for option in entry["options"]:
            place = f"{entry['name']}.{option['name']}"
            assert len(option["description"]) > 5, place
            assert option["description"].endswith("."), place
            assert option["type"], place


def test_interruption(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mbcompress.cli.validate.read_plan", interrupt)
    assert main(["validate", "r.yaml"]) == 130
    assert capsys.readouterr().err == "mbcompress: interrupted\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("mbcompress.cli.validate.read_plan", fail)
    with pytest.raises(ZeroDivisionError):
        main(["validate", "r.yaml"])


def test_the_reader_goes_away() -> None:
    """As in `mbcompress passes | head -1`."""
    with subprocess.Popen(
        [sys.executable, "-m", "mbcompress", "passes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["passes"], ["plugins"], ["validate", RECIPE], ["validate", ROOT / "setup.cfg"]],
    ids=lambda arguments: " ".join(Path(each).name for each in arguments),
)
def test_answers_without_torch(arguments: list[str | Path]) -> None:
    code = (
        "import sys\nfrom mbcompress.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = run(*arguments, code=code)
    assert done.stderr.splitlines()[-1] == "[]"


def test_python_m() -> None:
    done = run("validate", RECIPE)
    assert (done.returncode, done.stderr) == (0, "")
    done = run("validate", ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"mbcompress: {ROOT}: is a directory, not a recipe file\n"
