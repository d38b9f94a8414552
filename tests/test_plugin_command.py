"""`mbcompress plugin new` and `plugin check`: a new package is small, clean and passes the contract tests."""

import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from plugin_packages import OFFERS_SQUEEZE, SQUEEZE, Install

from mbcompress.cli import main
from mbcompress.registry.discovery import discover

ROOT = Path(__file__).parents[1]
PLUGIN = "src/mbcompress_halve.py"
TESTS = "tests/test_halve.py"


@pytest.fixture
def halve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A package as `plugin new` writes it."""
    monkeypatch.chdir(tmp_path)
    assert main(["plugin", "new", "halve"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "halve: a package with one pass, its tests and a README; next:",
        "    pip install ./halve",
        "    mbcompress plugin check halve",
    ]
    return tmp_path / "halve"


def metadata(package: Path) -> None:
    """Write the metadata that pip would install with the package."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    info = package / "src" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    requires = "".join(f"Requires-Dist: {line}\n" for line in project["dependencies"])
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n{requires}"
    )
    entries = "".join(f"{name} = {target}\n" for name, target in project["entry-points"]["mbcompress"].items())
    (info / "entry_points.txt").write_text(f"[mbcompress]\n{entries}")


def test_what_is_written(halve: Path) -> None:
    files = {path.relative_to(halve).as_posix() for path in halve.rglob("*") if path.is_file()}
    assert files == {"pyproject.toml", "README.md", PLUGIN, TESTS}
    assert not [path for path in halve.parent.iterdir() if path != halve]


def test_it_is_small(halve: Path) -> None:
    assert len((halve / PLUGIN).read_text().splitlines()) < 30
    assert len((halve / "pyproject.toml").read_text().splitlines()) < 12


def test_it_is_clean(halve: Path) -> None:
    assert_clean(halve)


def assert_clean(package: Path) -> None:
    options = ["--isolated", "--select", "E,F,I,W,B,UP,RUF", "--line-length", "120"]
    subprocess.run([sys.executable, "-m", "ruff", "check", *options, "."], cwd=package, check=True, capture_output=True)
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", "120", "--check", "."]
    subprocess.run(command, cwd=package, check=True, capture_output=True)


@pytest.mark.slow
def test_it_passes_its_own_tests(halve: Path) -> None:
    """In a pytest session of its own, with only the fixtures that mbcompress registers; exports are tried."""
    assert_passes_its_own_tests(halve)


def assert_passes_its_own_tests(package: Path) -> None:
    metadata(package)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    ended = subprocess.run(
        command, cwd=package, capture_output=True, text=True, check=False, env=environment(package / "src")
    )
    assert "2 passed" in ended.stdout, ended.stdout


def environment(path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), *sys.path])}


def test_it_is_found_and_its_requirement_includes_this_version(halve: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata(halve)
    monkeypatch.syspath_prepend(str(halve / "src"))
    importlib.invalidate_caches()
    registry = discover()
    assert registry.broken == []
    assert str(registry.passes.origins["halve"]) == "plugin 'halve' of mbcompress-halve 0.1.0"
    sys.modules.pop("mbcompress_halve")


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as `plugin new --trains` writes it."""
    monkeypatch.chdir(tmp_path)
    assert main(["plugin", "new", "clip", "--trains"]) == 0
    return tmp_path / "clip"


def test_a_pass_that_trains_is_written(clip: Path) -> None:
    files = {path.relative_to(clip).as_posix() for path in clip.rglob("*") if path.is_file()}
    package = "src/mbcompress_clip"
    expected = {
        "pyproject.toml",
        "README.md",
        f"{package}/__init__.py",
        f"{package}/callbacks.py",
        "tests/test_clip.py",
    }
    assert files == expected
    assert "class Clip(TrainingPass)" in (clip / package / "__init__.py").read_text()
    assert "- clip: {limit: 0.5}" in (clip / "README.md").read_text()
    assert len((clip / package / "__init__.py").read_text().splitlines()) < 30
    assert_clean(clip)


@pytest.mark.slow
def test_a_pass_that_trains_passes_its_own_tests(clip: Path) -> None:
    assert_passes_its_own_tests(clip)


def test_another_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "there" / "it"
    assert main(["plugin", "new", "My-Pass.2x", "--directory", str(directory)]) == 0
    assert f"pip install {directory}\n" in capsys.readouterr().out
    assert (directory / "src" / "mbcompress_my_pass_2x.py").is_file()
    assert 'name = "my_pass_2x"' in (directory / "src" / "mbcompress_my_pass_2x.py").read_text()
    assert "class MyPass2x(Pass)" in (directory / "src" / "mbcompress_my_pass_2x.py").read_text()
    project = tomllib.loads((directory / "pyproject.toml").read_text())["project"]
    assert project["name"] == "mbcompress-my-pass-2x"


@pytest.mark.parametrize("name", ["field", "pass", "trait", "none", "Class_Var"])
def test_names_that_python_or_the_template_uses(name: str, tmp_path: Path) -> None:
    assert main(["plugin", "new", name, "--directory", str(tmp_path / "it")]) == 0
    (module,) = (tmp_path / "it" / "src").iterdir()
    compile(module.read_text(), str(module), "exec")
    camel = "".join(part.capitalize() for part in name.split("_"))
    assert f"class {camel}Pass(Pass)" in module.read_text()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "must be at most 64 letters, digits, '-', '_' or '.', begin with a letter"),
        ("2fast", "must be at most 64 letters"),
        ("halve-", "must be at most 64 letters"),
        ("ha lve", "must be at most 64 letters"),
        ("../halve", "must be at most 64 letters"),
        ("hälfte", "must be at most 64 letters"),
        ("h" * 65, "must be at most 64 letters"),
        ("halve\n", "must be at most 64 letters"),
        ("prune", "pass 'prune' is already provided by plugin 'mbcompress_prune' of mbcompress "),
        ("Prune", "pass 'prune' is already provided by plugin 'mbcompress_prune' of mbcompress "),
        ("mobilenet-v2", "model source 'mobilenet_v2' is already provided by plugin 'mbcompress_mobilenet' of "),
        ("quantize", "is taken by plugin 'mbcompress_quantize' of mbcompress "),
        ("mbcompress", "is taken by plugin "),
    ],
)
def test_names_that_are_refused(
    name: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plugin", "new", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mbcompress: plugin name ")
    assert problem in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def a_directory(path: Path) -> None:
    path.mkdir()


def a_file(path: Path) -> None:
    path.write_text("mine")


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


@pytest.mark.parametrize("make", [a_directory, a_file, a_link_to_nothing])
def test_nothing_is_overwritten(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("halve"))
    assert main(["plugin", "new", "halve"]) == 2
    assert capsys.readouterr().err == (
        "mbcompress: halve: already exists; choose another --directory, or remove it first\n"
    )


def test_nothing_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules["mbcompress.cli.scaffold"].FILES, "last", "there is no such template")
    with pytest.raises(FileNotFoundError):
        main(["plugin", "new", "halve"])
    assert list(tmp_path.iterdir()) == []


def test_check_reports_what_to_change(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("mb-squeeze", "1 / 0")
    assert main(["plugin", "check", "squeezer"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "FAIL plugin 'squeezer' of mb-squeeze 1.2: loads",
        "     ZeroDivisionError: division by zero (mb_squeeze.py, line 5)",
        "squeezer: 1 of 1 checks failed",
    ]


def test_check_as_json(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown option is refused, so that behavior is not tested."""
    install("mb-squeeze", SQUEEZE + OFFERS_SQUEEZE)
    assert main(["plugin", "check", "mb-squeeze", "--json", "-o", "farce=2"]) == 1
    verdicts = json.loads(capsys.readouterr().out)
    found = {verdict["check"]: verdict["outcome"] for verdict in verdicts}
    assert found == {
        "imports no torch": "passed", "descriptions": "passed", "defaults": "failed", "schema": "passed",
        "round trip": "skipped", "behavior": "skipped",
    }  # fmt: skip
    assert "did you mean 'force'" in verdicts[2]["problems"][0]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["prnue"], "unknown plugin 'prnue'; did you mean 'prune'?"),
        (["digits", "-o", "calibration"], "--option calibration: must be KEY=VALUE"),
        (["digits", "-o", "calibration=["], "--option calibration=[:1:"),
    ],
)
def test_check_of_bad_arguments(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugin", "check", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"mbcompress: {problem}")


def test_check_of_a_working_component(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugin", "check", "digits", "-o", "calibration=64"]) == 0
    assert capsys.readouterr().out.endswith("\ndigits: none of 7 checks failed\n")


def test_the_pytest_plugin_imports_nothing_slow() -> None:
    ours = "[name for name in sys.modules if name.startswith(('mbcompress.', 'torch'))]"
    code = f"import sys, mbcompress_pytest; print({ours})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
