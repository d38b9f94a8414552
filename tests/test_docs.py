"""The references are true: signatures are the real ones, generated pages are complete, and drift is found."""

import ast
import inspect
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from documents import DOCS, blocks, modules

import mbcompress
from mbcompress.cli import build_parser
from mbcompress.contract import hookspecs
from mbcompress.registry.discovery import discover

ROOT = DOCS.parent
HOOKS = {name: hook for name, hook in vars(hookspecs).items() if hasattr(hook, "mbcompress_spec")}


def test_the_pass_of_the_readme() -> None:
    import torch

    (block,) = [block for block in blocks("../README.md", "python") if "class Clamp" in block.code]
    namespace: dict[str, Any] = {}
    exec(compile(block.code, f"README.md:{block.line}", "exec"), namespace)
    (clamp,) = namespace["mbcompress_passes"]()
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    before = model[0].weight.clone()
    assert torch.equal(clamp(limit=0.25).apply(model, None)[0].weight, before.clamp(-0.25, 0.25))
    assert clamp.consumes_input


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in DOCS.glob("*.md"))]
)
def test_links(page: str) -> None:
    """Every relative link leads to a file, and its fragment to a heading."""
    path = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)):
        if "://" in target:
            continue
        file, _, fragment = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert fragment in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, target


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/how_to_change.md", "docs/architecture.md"])
def test_named_files_exist(page: str) -> None:
    paths = re.findall(r"`((?:mbcompress|plugins|tests|docs)/[\w/.]*)`", (ROOT / page).read_text())
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def documented_hooks() -> dict[str, ast.FunctionDef]:
    found = [node for block in blocks("hooks.md", "python") for node in ast.parse(block.code).body]
    return {node.name: node for node in found if isinstance(node, ast.FunctionDef)}


def test_every_hook_is_documented_with_its_signature() -> None:
    source = {n.name: n for n in ast.parse(inspect.getsource(hookspecs)).body if isinstance(n, ast.FunctionDef)}
    assert set(documented_hooks()) == set(HOOKS)
    headings = re.findall(r"^### `(\w+)`$", (DOCS / "hooks.md").read_text(), re.MULTILINE)
    assert headings == list(HOOKS)  # in the order of hookspecs.py
    for name, node in documented_hooks().items():
        for part in ("args", "returns"):
            assert ast.unparse(getattr(node, part)) == ast.unparse(getattr(source[name], part)), name


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_test(hook: str) -> None:
    tests = [path.read_text() for path in (ROOT / "tests").glob("*.py")]
    code = "\n".join([*tests, *(block.code for block in modules())])
    assert re.search(rf"\bdef {hook}\(", code), f"no test implements {hook}"


def sections(page: str) -> dict[str, str]:
    """Text below each heading of a page, of whatever level; backquotes are left out of the headings."""
    parts = re.split(r"^#{2,4} (.+)$", (DOCS / page).read_text(), flags=re.MULTILINE)
    headings = [heading.replace("`", "") for heading in parts[1::2]]
    assert len(headings) == len(set(headings)), "a link could not tell two headings apart"
    return dict(zip(headings, parts[2::2], strict=True))


def test_recipe_reference_has_every_option() -> None:
    text = sections("recipes.md")
    for kind in discover().kinds:
        for cls, origin in kind:
            if origin.distribution != "mbcompress":
                continue
            for name, field in cls.model_fields.items():
                (row,) = [
                    line for line in text[f"{kind.name} {cls.name}"].splitlines() if line.startswith(f"| `{name}` |")
                ]
                assert " ".join(str(field.description).split()) in row.replace("\\|", "|")
                assert ("| required |" in row) == field.is_required()


def test_recipe_reference_is_the_same_on_every_machine() -> None:
    text = (DOCS / "recipes.md").read_text()
    assert str(Path.home()) not in text.replace("~/", "")
    assert str(ROOT) not in text
    assert "| `null` | Folder with the dataset; null is 'cifar10' in the user's cache folder" in text


def test_api_reference_has_everything_public() -> None:
    text = sections("api.md")
    for name in mbcompress._MODULES:
        section = text[f"mbcompress.{name}"]
        thing = getattr(mbcompress, name)
        if isinstance(thing, types.FunctionType):
            for parameter in inspect.signature(thing).parameters:
                assert re.search(rf"\b{parameter}\b", section), f"{name}({parameter})"


def test_every_command_is_documented() -> None:
    text = (DOCS / "cli.md").read_text()
    (commands,) = [action for action in build_parser()._actions if action.dest == "command"]
    assert commands.choices
    for name in commands.choices:
        assert f"## `mbcompress {name}`" in text


def generate(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, DOCS / "generate.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"})


def test_drift_is_found_and_named(tmp_path: Path) -> None:
    missing = generate("--check", "--into", tmp_path)
    assert missing.returncode == 1
    assert len(missing.stderr.splitlines()) == 5
    assert list(tmp_path.iterdir()) == []
    assert generate("--into", tmp_path).returncode == 0
    assert generate("--check", "--into", tmp_path).returncode == 0
    page = tmp_path / "recipes.md"
    page.write_text(page.read_text().replace("`0.05`", "`0.06`"))
    stale = generate("--check", "--into", tmp_path)
    assert stale.returncode == 1
    assert stale.stderr == f"{page}: is stale; run `make docs` and commit what it writes\n"
