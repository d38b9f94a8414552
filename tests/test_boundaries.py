"""Boundaries between rooms: the direction of imports, what plugins may import, and what is shipped."""

import ast
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest
from render.rooms import CORE, ROOMS, imports, room_of

ROOT = CORE.parent
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))

LEAVES = "contract registry data graph report"
BELOW_PIPELINE = f"{LEAVES} recipe training cache measure checkpoint"
ALLOWED = {
    "errors": "",
    "files": "",
    "contract": "",
    "registry": "contract",
    "data": "contract",
    "graph": "contract",
    "report": "contract",
    "recipe": "contract registry data",
    "training": "contract data graph report",
    "measure": "contract registry data graph",
    "checkpoint": "contract registry graph",
    "cache": "contract graph measure",
    "pipeline": BELOW_PIPELINE,
    "testing": f"{BELOW_PIPELINE} pipeline",
    "info": f"{LEAVES} recipe checkpoint",
    "api": f"{BELOW_PIPELINE} pipeline",
    "cli": f"{BELOW_PIPELINE} pipeline testing info api",
}
"""The rooms that a room may import, in addition to errors and files."""

LAZY_EXCEPTIONS = {
    ("contract", "training"): "Context.fit trains",
    ("measure", "training"): "ExportBenchmark.score returns the Score that training compares",
}
"""Imports inside functions that go up, with the reason."""

PUBLIC = {
    "mbcompress",
    "mbcompress.data",
    "mbcompress.errors",
    "mbcompress.graph",
    "mbcompress.measure",
    "mbcompress.report",
    "mbcompress.testing",
    "mbcompress.training",
}
"""Modules that plugins may use. A package lists its public names in `__all__`."""


def public_names(module: str) -> set[str]:
    loaded = import_module(module)
    return set(getattr(loaded, "__all__", dir(loaded)))


def test_the_table_names_every_room() -> None:
    assert set(ALLOWED) == set(ROOMS)


def test_rooms_do_not_import_each_other_in_circles() -> None:
    done: set[str] = set()
    while rest := set(ALLOWED) - done:
        ready = {room for room in rest if set(ALLOWED[room].split()) <= done}
        assert ready, rest
        done |= ready


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_go_down(room: str) -> None:
    allowed = {room, "errors", "files", *ALLOWED[room].split()}
    upward = [
        f"{path.relative_to(ROOT)}: {imported.module}"
        for path in sorted(CORE.rglob("*.py"))
        if room_of(path) == room
        for imported in imports(path)
        if imported.room not in allowed and not (imported.lazy and (room, imported.room) in LAZY_EXCEPTIONS)
    ]
    assert upward == []


@pytest.mark.parametrize("exception", LAZY_EXCEPTIONS)
def test_exceptions_are_used(exception: tuple[str, str]) -> None:
    room, target = exception
    assert any(
        imported.lazy and imported.room == target for path in (CORE / room).rglob("*.py") for imported in imports(path)
    )


def test_few_modules_lie_at_the_root() -> None:
    assert len(list(CORE.glob("*.py"))) <= 6


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_import_public_names_only(path: Path) -> None:
    """From the public module that lists the name, so that every plugin is a good example."""
    private = [
        f"{imported.module}.{name}"
        for imported in imports(path)
        for name in imported.names or ("*",)
        if imported.module not in PUBLIC or name not in public_names(imported.module)
    ]
    assert private == []


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_do_not_import_each_other(path: Path) -> None:
    own = path.relative_to(ROOT / "plugins").parts[0].removesuffix(".py")
    others = {other.relative_to(ROOT / "plugins").parts[0].removesuffix(".py") for other in PLUGINS} - {own}
    assert not others & {imported.module.partition(".")[0] for imported in imports(path, prefix="mbcompress_")}


def test_there_is_no_plugins_package() -> None:
    assert not (ROOT / "plugins" / "__init__.py").exists()
    assert len(PLUGINS) > 10


def test_only_registry_and_hookspecs_use_pluggy() -> None:
    users = {path.relative_to(CORE).as_posix() for path in CORE.rglob("*.py") if list(imports(path, prefix="pluggy"))}
    assert users == {"registry/discovery.py", "contract/hookspecs.py"}


def test_every_package_is_shipped() -> None:
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg")
    listed = set(settings["options"]["packages"].split())
    packages = {
        ".".join(path.parent.relative_to(root).parts)
        for root, package in ((ROOT, "mbcompress"), (ROOT / "plugins", "."))
        for path in (root / package).rglob("__init__.py")
    }
    assert listed == packages


def test_lazy_names_match_what_type_checkers_see() -> None:
    """A package that imports its names on first use lists them for type checkers too."""
    for path in CORE.rglob("__init__.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = import_module(".".join(path.parent.relative_to(ROOT).parts))
        if not hasattr(module, "__getattr__"):
            continue
        (checked,) = (node for node in tree.body if isinstance(node, ast.If))
        seen = {
            (alias.name, f"{node.module}")
            for node in checked.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert seen == {(name, f"{module.__name__}.{home}") for name, home in module._MODULES.items()}
        lists = [
            n.value for n in ast.walk(tree) if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"
        ]
        assert set(ast.literal_eval(lists[0])) == {name for name, _ in seen}
        for name in module._MODULES:
            assert getattr(module, name) is not None
