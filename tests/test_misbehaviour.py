"""The message for every kind of broken plugin; docs/misbehaviour.md must quote the same text."""

import importlib.metadata
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from plugin_packages import OFFERS_SQUEEZE, SQUEEZE, Install
from rich.console import Console
from rich.progress import Progress as Bars
from toys import toy as toy

import mbcompress
from mbcompress import Trait
from mbcompress.cli import main
from mbcompress.cli.console import BarProgress
from mbcompress.cli.printing import lines_of
from mbcompress.errors import PassError
from mbcompress.recipe import read, resolve
from mbcompress.registry.discovery import BLOCK, discover

PAGE = Path(__file__).parents[1] / "docs" / "misbehaviour.md"
ORIGIN = "plugin 'squeezer' of mb-squeeze 1.2"
VERSION = importlib.metadata.version("mbcompress")
HEAD = """model: {source: mobilenet_v1, width: 0.25, num_classes: 10, input_size: 32}
data: {name: digits}
measure: {rounds: 5, round_ms: 1, threads: [1]}
"""
USES = f"{HEAD}passes:\n  - squeeze\n"
GOOD = SQUEEZE + OFFERS_SQUEEZE


def offers(code: str) -> str:
    """Squeeze with another body of `apply`."""
    return SQUEEZE.replace("return model", code) + OFFERS_SQUEEZE


def assert_documented(misbehaviour: str, message: str) -> None:
    row = f"| {misbehaviour} | `{message}` |"
    assert row in PAGE.read_text().splitlines()


def validate(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and standard error of `mbcompress validate r.yaml`, without the directory's name."""
    recipe = tmp_path / "r.yaml"
    recipe.write_text(text)
    code = main(["validate", str(recipe)])
    return code, capsys.readouterr().err.replace(f"{tmp_path}/", "")


def reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Why the plugin is broken, according to `mbcompress plugins`; a recipe that does not use it is fine."""
    assert validate(tmp_path, f"{HEAD}passes: [train]", capsys) == (0, "")
    assert main(["plugins", "--json"]) == 0
    listed = [each for each in json.loads(capsys.readouterr().out) if each["distribution"].startswith("mb-")]
    (problem,) = [problem for plugin in listed for problem in plugin["problems"]]
    assert all(plugin["status"] == ("broken" if plugin["problems"] else "fine") for plugin in listed)
    return str(problem).replace(f"{tmp_path}/", "").replace(mbcompress.__path__[0], "")


STATIC = {
    "misspelled hook": (
        GOOD.replace("mbcompress_passes", "mbcompress_pases"),
        "unknown hook 'mbcompress_pases'; did you mean 'mbcompress_passes'? (known: mbcompress_datasets, "
        "mbcompress_metrics, mbcompress_models, mbcompress_operators, mbcompress_pass_finished, mbcompress_passes, "
        "mbcompress_run_failed, mbcompress_run_finished, mbcompress_run_started, mbcompress_runtimes)",
    ),
    "hook without its decorator": (
        GOOD.replace("@mbcompress.hookimpl", ""),
        "function mbcompress_passes lacks the decorator @mbcompress.hookimpl",
    ),
    "import error": (
        "import not_there",
        "ModuleNotFoundError: No module named 'not_there' (mb_squeeze.py, line 5)",
    ),
    "exception while loading": ("1 / 0", "ZeroDivisionError: division by zero (mb_squeeze.py, line 5)"),
    "pass without `apply`": (
        SQUEEZE.replace("apply", "aply") + OFFERS_SQUEEZE,
        "pass 'squeeze' does not implement 'apply'",
    ),
    "trait that does not exist": (
        SQUEEZE.replace("    force", "    provides = frozenset({'tiny'})\n    force") + OFFERS_SQUEEZE,
        "pass 'squeeze' provides frozenset({'tiny'}), which must be a frozenset of mbcompress.Trait (known: "
        f"{', '.join(Trait)})",
    ),
}


@pytest.mark.parametrize("misbehaviour", STATIC)
def test_at_discovery(misbehaviour: str, install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, expected = STATIC[misbehaviour]
    install("mb-squeeze", code)
    assert reason(tmp_path, capsys) == expected
    assert main(["plugins"]) == 0
    assert f"    broken: {expected}\n" in capsys.readouterr().out
    exit_code, error = validate(tmp_path, USES, capsys)
    assert exit_code == 2
    assert error.startswith("mbcompress: r.yaml:5:5: passes[0].squeeze: unknown pass 'squeeze'")
    assert error.endswith(f"; note that {ORIGIN} could not be used: {expected}\n")
    assert_documented(misbehaviour, f"{ORIGIN} could not be used: {expected}")


def test_another_major_version(install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install("mb-squeeze", GOOD, requires="mbcompress >=2,<3")
    expected = (
        f"it requires mbcompress <3,>=2, and this is {VERSION}; install another version of mb-squeeze or of mbcompress"
    )
    assert reason(tmp_path, capsys) == expected
    assert_documented("built against another major version", f"{ORIGIN} could not be used: {expected}")


@pytest.mark.parametrize(
    "requires",
    ["mbcompress", "mbcompress >=0.1,<1", "mbcompress >=2 ; python_version < '3'", "other >=2", "not valid!"],
)
def test_versions_that_fit(requires: str, install: Install) -> None:
    install("mb-squeeze", GOOD, requires=requires)
    assert discover().broken == []


def test_two_plugins_with_one_name(install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install("mb-squeeze", GOOD, into="first")
    install("mb-crush", GOOD.replace('"squeeze"', '"crush"'), into="second")  # comes before it on sys.path
    expected = "its name is already taken by plugin 'squeezer' of mb-crush 1.2"
    assert reason(tmp_path, capsys) == expected
    assert_documented("two distributions with a plugin of the same name", f"{ORIGIN} could not be used: {expected}")


def test_one_distribution_twice(install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install("mb-squeeze", GOOD, version="1.2", into="old")
    install("mb-squeeze", GOOD, version="1.3", into="new")
    expected = "mb-squeeze is installed twice, and 1.3 in new comes before 1.2 in old; uninstall one of them"
    assert reason(tmp_path, capsys) == expected
    assert_documented("one distribution installed twice", f"{ORIGIN} could not be used: {expected}")


def test_a_pass_name_taken_twice(install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plugin's other passes can still be used."""
    both = GOOD.replace("[Squeeze]", "[Prune, Squeeze]")
    prune = SQUEEZE.replace("Squeeze(", "Prune(").replace('"squeeze"', '"prune"')
    install("mb-squeeze", prune + both)
    expected = f"pass 'prune' is already provided by plugin 'mbcompress_prune' of mbcompress {VERSION}"
    assert reason(tmp_path, capsys) == expected
    assert validate(tmp_path, USES, capsys) == (0, "")
    assert_documented("pass name taken twice", f"{ORIGIN} could not be used: {expected}")


def test_blocked(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install("mb-squeeze", "raise RuntimeError('must not be imported')")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(USES)
    assert main(["validate", "--block", "mb_squeeze", str(recipe)]) == 2
    error = capsys.readouterr().err
    assert error.endswith(f"; note that {ORIGIN} is blocked\n")
    assert BLOCK not in os.environ
    monkeypatch.setenv(BLOCK, "nobody, Squeezer")
    assert main(["plugins"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("MBCOMPRESS_BLOCK: unknown plugin 'nobody' (known: ")
    assert err.count("\n") == 1
    assert out.count("\n    blocked\n") == 1
    assert "squeezer  (mb-squeeze 1.2, " in out
    assert "must not be imported" not in out
    assert main(["passes", "--block", "sqeezer"]) == 2
    assert "--block: unknown plugin 'sqeezer'; did you mean 'squeezer'?" in capsys.readouterr().err
    assert_documented("blocked by --block or MBCOMPRESS_BLOCK", f"{ORIGIN} is blocked")


def test_built_ins_can_be_blocked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", "--block", "mbcompress_prune", "prune"]) == 2
    assert "unknown component 'prune'" in capsys.readouterr().err


RUNNING = {
    "pass that raises": (
        "raise ValueError('no luck')",
        "raised ValueError: no luck",
    ),
    "pass that exits the program": ("raise SystemExit(0)", "raised SystemExit: 0"),
    "pass that returns nothing": (
        "pass",
        "returned None; it must return an nn.Module, as it was given one",
    ),
    "pass that changes the output's shape": (
        "import torch; return torch.nn.Sequential(model, torch.nn.Linear(10, 4))",
        "returned a model with another output shape: (2, 4) for two images, and it was (2, 10); a pass must keep the shape "
        "of the logits",
    ),
    "pass that returns a model that cannot run": (
        "import torch; return torch.nn.Sequential(model, torch.nn.Linear(7, 10))",
        "returned a model that cannot run on images of (2, 3, 32, 32): RuntimeError: mat1 and mat2 shapes cannot be "
        "multiplied (2x10 and 7x10)",
    ),
    "pass that reports an invalid metric": (
        "context.metrics['left'] = float('nan'); return model",
        "reported the metric 'left' as nan; metrics must be finite Python numbers by name",
    ),
}


@pytest.mark.parametrize("misbehaviour", RUNNING)
def test_at_run_time(misbehaviour: str, install: Install, tmp_path: Path, tiny_model: Any, make_context: Any) -> None:
    from mbcompress.pipeline.executor import Executor

    code, problem = RUNNING[misbehaviour]
    install("mb-squeeze", offers(code))
    recipe = tmp_path / "r.yaml"
    recipe.write_text(USES)
    registry = discover()
    plan = resolve(read(recipe), registry)
    model = tiny_model("mobilenet_v1")
    with pytest.raises(PassError) as found:
        list(Executor(plan, registry, tmp_path / "run", model, make_context(model), None).execute())
    message = str(found.value).replace(f"{tmp_path}/", "")
    assert message == f"r.yaml:5:5: pass 'squeeze' ({ORIGIN}) {problem}"
    assert (found.value.__cause__ is not None) == ("raise" in code or "cannot run" in problem)
    assert_documented(misbehaviour, message)


def test_the_command_line_keeps_the_traceback_and_names_the_culprit_last(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("mb-squeeze", offers("raise ValueError('no luck')"))
    recipe = tmp_path / "r.yaml"
    recipe.write_text(USES)
    assert main(["run", str(recipe), "--out", str(tmp_path / "run"), "--quiet"]) == 1
    lines = capsys.readouterr().err.replace(f"{tmp_path}/", "").splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == f"mbcompress: r.yaml:5:5: pass 'squeeze' ({ORIGIN}) raised ValueError: no luck"
    assert sum("mb_squeeze.py" in line for line in lines) == 1
    assert not (tmp_path / "run").exists()


def test_a_pass_that_refuses_keeps_its_kind_of_error_and_gains_the_line(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("mb-squeeze", offers("raise mbcompress.MbcompressError('squeeze: force 1 is too much for this model')"))
    recipe = tmp_path / "r.yaml"
    recipe.write_text(USES)
    assert main(["run", str(recipe), "--out", str(tmp_path / "run"), "--quiet"]) == 2
    message = "r.yaml:5:5: squeeze: force 1 is too much for this model"
    assert capsys.readouterr().err.replace(f"{tmp_path}/", "") == f"mbcompress: {message}\n"
    assert_documented("pass that raises `MbcompressError` (exit code 2)", message)


def test_what_a_pass_prints_is_a_line_that_names_it(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import sys; print('hello', end=''); print(' there'); sys.stderr.write('50 %\\rdone'); raise SystemExit(1)"
    install("mb-squeeze", offers(code))
    recipe = tmp_path / "r.yaml"
    recipe.write_text(USES)
    assert main(["run", str(recipe), "--out", str(tmp_path / "run")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    said = [line for line in err.splitlines() if line.startswith("squeeze: ")]
    assert said == ["squeeze: hello there", "squeeze: done"]
    assert_documented("pass that prints", "squeeze: hello there")


def test_a_run_beside_broken_plugins(
    install: Install, toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is broken or prints does not get into the report of a recipe that does not use it."""
    install("mb-one", "1 / 0", plugin="one")
    install("mb-two", GOOD.replace("mbcompress_passes", "mbcompress_pases"), plugin="two")
    install("mb-three", offers("print('over the JSON'); return model"), plugin="three")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(json.dumps({**toy, "passes": ["squeeze"]}))
    assert main(["run", str(recipe), "--out", str(tmp_path / "run"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert [step["name"] for step in json.loads(out)["passes"]] == ["squeeze"]
    assert err == ""


def test_lines_do_not_break_up_and_nothing_is_lost() -> None:
    said: list[str] = []
    with lines_of("p", said.append):
        print("one\ntwo", end="")
        print(" and a half\x1b[31m\t!", file=sys.stderr)
        print(f"{'three':>10}", flush=True)
        sys.stdout.buffer.write("vier ü\n".encode())
        print("\n\n   \nlast", end="")
    assert said == ["p: one", "p: two and a half[31m     !", "p:      three", "p: vier ü", "p: last"]


def test_bars_stay_whole_beside_what_a_pass_prints() -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=80)
    with Bars(console=screen, transient=True) as bars:
        progress = BarProgress(bars)
        with progress.attributed("squeeze"):
            for _ in progress.track(range(2), "working", 2):
                print("[red]not markup[/nope]")
                bars.refresh()
    assert isinstance(screen.file, io.StringIO)
    lines = screen.file.getvalue().splitlines()
    said = [line for line in lines if "not markup" in line]
    assert len(said) == 2
    assert all(line.endswith("squeeze: [red]not markup[/nope]") and "working" not in line for line in said)


def test_debugging_leaves_the_streams_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MBCOMPRESS_DEBUG", "1")
    with lines_of("p", pytest.fail):
        print("(Pdb) ", end="")
    assert capsys.readouterr().out == "(Pdb) "


def test_documented_rows_are_all_tested() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(STATIC) + len(RUNNING) + 7
