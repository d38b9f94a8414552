"""Broken plugins are reported with their distribution, and the others still work."""

import importlib.metadata
from pathlib import Path

import pytest
from plugin_packages import OFFERS_SQUEEZE, SQUEEZE, Install

from mbcompress.cli import main
from mbcompress.contract.passes import Pass
from mbcompress.errors import MbcompressError
from mbcompress.registry.discovery import Kind, Origin, Registry, discover

BUILT_IN = {
    "passes": {"train", "prune", "sparsify", "distill", "qat"},
    "models": {"mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "resnet9"},
    "datasets": {"digits", "image_folder", "cifar10", "arrays"},
    "runtimes": {"onnx"},
    "metrics": {"agreement", "calibration"},
}


def assert_built_ins(registry: Registry) -> None:
    for attribute, names in BUILT_IN.items():
        assert names <= set(getattr(registry, attribute).classes)


def only_broken(registry: Registry) -> tuple[str, str]:
    """The one broken plugin, and the reason."""
    assert_built_ins(registry)
    (broken,) = registry.broken
    return str(broken.origin), broken.reason


def test_built_ins() -> None:
    registry = discover()
    assert_built_ins(registry)
    assert registry.broken == []
    assert registry.passes.origins["prune"].distribution == "mbcompress"
    assert registry.passes.origins["prune"].version == importlib.metadata.version("mbcompress")


def test_built_ins_are_complete() -> None:
    """All options have types that pydantic can import at run time."""
    registry = discover()
    for attribute in BUILT_IN:
        for cls, _ in getattr(registry, attribute):
            assert cls.__pydantic_complete__, f"{cls.__name__}: {cls.__annotations__}"


def test_every_registry_is_new() -> None:
    first, second = discover(), discover()
    first.passes.classes.clear()
    assert_built_ins(second)


def test_an_installed_plugin(install: Install) -> None:
    install("mb-squeeze", SQUEEZE + OFFERS_SQUEEZE)
    registry = discover()
    assert registry.broken == []
    assert str(registry.passes.origins["squeeze"]) == "plugin 'squeezer' of mb-squeeze 1.2"
    assert registry.passes.build("squeeze", {"force": 2}, registry).name == "squeeze"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("import not_installed_anywhere", "ModuleNotFoundError: No module named 'not_installed_anywhere'"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        (
            SQUEEZE + OFFERS_SQUEEZE.replace("mbcompress_passes", "mbcompress_pases"),
            "unknown hook 'mbcompress_pases'; did you mean 'mbcompress_passes'? (known: mbcompress_datasets, ",
        ),
        (
            SQUEEZE + OFFERS_SQUEEZE.replace("passes()", "passes(registry)"),
            "PluginValidationError: Plugin 'squeezer' for hook 'mbcompress_passes'",
        ),
        (
            SQUEEZE + OFFERS_SQUEEZE.replace("[Squeeze]", "Squeeze"),
            "hook mbcompress_passes must return a list of classes, got <class 'mb_squeeze.Squeeze'>",
        ),
        (
            SQUEEZE + OFFERS_SQUEEZE.replace("[Squeeze]", "None"),
            "hook mbcompress_passes must return a list of classes, got None",
        ),
        (
            SQUEEZE + OFFERS_SQUEEZE.replace("[Squeeze]", "[Squeeze()]"),
            "hook mbcompress_passes must return subclasses of Pass, got Squeeze(force=1.0)",
        ),
        (
            SQUEEZE + OFFERS_SQUEEZE.replace("[Squeeze]", "['squeeze']"),
            "hook mbcompress_passes must return subclasses of Pass, got 'squeeze'",
        ),
        (
            SQUEEZE + OFFERS_SQUEEZE.replace("[Squeeze]", "[mbcompress.TrainingConfig]"),
            "hook mbcompress_passes must return subclasses of Pass, got <class",
        ),
        (
            SQUEEZE + OFFERS_SQUEEZE.replace("return [Squeeze]", "raise OSError('no disk')"),
            "OSError: no disk",
        ),
        (
            SQUEEZE.replace('    name: ClassVar[str] = "squeeze"\n', "") + OFFERS_SQUEEZE,
            "pass Squeeze has no 'name'; set it as a class attribute",
        ),
        (
            SQUEEZE.replace('"squeeze"', '""') + OFFERS_SQUEEZE,
            "pass Squeeze has no 'name'; set it as a class attribute",
        ),
    ],
    ids=[
        "raises", "missing import", "syntax", "misspelt hook", "hook with an argument", "class alone", "none",
        "instance", "text", "class of another kind", "hook raises", "no name", "empty name",
    ],
)  # fmt: skip
def test_broken(code: str, reason: str, install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("mb-squeeze", code)
    origin, found = only_broken(discover())
    assert origin == "plugin 'squeezer' of mb-squeeze 1.2"
    assert found.startswith(reason)

    assert main(["passes", "prune"]) == 0
    out, err = capsys.readouterr()
    assert "criterion" in out
    assert err.startswith(f"broken: plugin 'squeezer' of mb-squeeze 1.2: {reason}")


def test_a_recipe_that_names_a_pass_of_a_broken_plugin(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error says that the plugin is broken; other recipes still work."""
    install("mb-squeeze", "raise RuntimeError('no licence')")
    recipe = tmp_path / "r.yaml"
    head = "model: {source: mobilenet_v2, num_classes: 10}\ndata: {name: digits}\npasses: "
    recipe.write_text(f"{head}[squeeze]")
    assert main(["validate", str(recipe)]) == 2
    assert capsys.readouterr().err.endswith(
        "note that plugin 'squeezer' of mb-squeeze 1.2 could not be used: RuntimeError: no licence "
        "(mb_squeeze.py, line 5)\n"
    )
    recipe.write_text(f"{head}[train]")
    assert main(["validate", str(recipe)]) == 0


def test_one_entry_point_name_in_two_distributions(install: Install) -> None:
    install("mb-one", SQUEEZE + OFFERS_SQUEEZE)
    install("mb-two", SQUEEZE.replace('"squeeze"', '"crush"') + OFFERS_SQUEEZE)
    registry = discover()
    origin, reason = only_broken(registry)
    assert reason.startswith("its name is already taken by plugin 'squeezer' of mb-")
    assert {origin, reason.removeprefix("its name is already taken by ")} == {
        "plugin 'squeezer' of mb-one 1.2",
        "plugin 'squeezer' of mb-two 1.2",
    }
    assert len({"squeeze", "crush"} & set(registry.passes.classes)) == 1


def test_name_of_a_built_in_pass(install: Install) -> None:
    """A plugin cannot replace a built-in pass, even if it comes first on sys.path."""
    install("mb-squeeze", SQUEEZE.replace('"squeeze"', '"prune"') + OFFERS_SQUEEZE)
    registry = discover()
    origin, reason = only_broken(registry)
    assert origin == "plugin 'squeezer' of mb-squeeze 1.2"
    assert reason.startswith("pass 'prune' is already provided by plugin 'mbcompress_prune' of mbcompress ")
    assert registry.passes.origins["prune"].distribution == "mbcompress"


def test_entry_point_name_of_a_built_in(install: Install) -> None:
    install("mb-squeeze", SQUEEZE + OFFERS_SQUEEZE, plugin="mbcompress_prune")
    origin, reason = only_broken(discover())
    assert origin == "plugin 'mbcompress_prune' of mb-squeeze 1.2"
    assert reason.startswith("its name is already taken by plugin 'mbcompress_prune' of mbcompress ")


def test_entry_points_that_cannot_be_read(install: Install) -> None:
    install("mb-squeeze", SQUEEZE, entry="this is no entry point")
    assert_built_ins(discover())


def test_plugin_that_exits(install: Install) -> None:
    install("mb-squeeze", "raise SystemExit(7)")
    assert only_broken(discover())[1].startswith("SystemExit: 7")


def test_one_pass_name_in_two_distributions(install: Install) -> None:
    install("mb-one", SQUEEZE + OFFERS_SQUEEZE, plugin="one")
    install("mb-two", SQUEEZE + OFFERS_SQUEEZE, plugin="two")
    origin, reason = only_broken(discover())
    assert reason.startswith("pass 'squeeze' is already provided by plugin '")
    assert {"mb-one", "mb-two"} == {text.split()[-2] for text in (origin, reason)}


def test_several_broken_at_once(install: Install) -> None:
    install("mb-one", "1 / 0", plugin="one")
    install("mb-two", OFFERS_SQUEEZE.replace("passes", "pases"), plugin="two")
    install("mb-three", SQUEEZE + OFFERS_SQUEEZE, plugin="three")
    registry = discover()
    assert_built_ins(registry)
    assert {broken.origin.plugin for broken in registry.broken} == {"one", "two"}
    assert "squeeze" in registry.passes.classes


def test_entry_point_to_nothing(install: Install) -> None:
    install("mb-squeeze", SQUEEZE, entry="squeezer = mb_squeeze:absent")
    assert only_broken(discover())[1].startswith("AttributeError: ")


def test_the_same_distribution_twice(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editable install appears twice in its own repository."""
    install("mb-squeeze", SQUEEZE + OFFERS_SQUEEZE)
    there = tmp_path / "packages"
    (tmp_path / "again").mkdir()
    (there / "mb_squeeze-1.2.dist-info").rename(tmp_path / "again" / "mb_squeeze-1.2.dist-info")
    copy = there / "mb_squeeze-1.2.dist-info"
    copy.mkdir()
    for file in (tmp_path / "again" / "mb_squeeze-1.2.dist-info").iterdir():
        (copy / file.name).write_text(file.read_text())
    monkeypatch.syspath_prepend(str(tmp_path / "again"))
    registry = discover()
    assert registry.broken == []
    assert "squeeze" in registry.passes.classes


def test_registry_refuses_a_class_without_name() -> None:
    class Nameless(Pass):
        """No name."""

        def apply(self, model: object, context: object) -> object:  # type: ignore[override]
            return model

    with pytest.raises(MbcompressError, match="has no 'name'"):
        Kind[Pass]("pass", Pass).register(Nameless, Origin("p", "d", "1"))
