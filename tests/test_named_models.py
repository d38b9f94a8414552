"""Models by the name of a callable, and of fake torchvision and timm modules."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import HandWrittenMobileNetV3
from torch import nn

from mbcompress import MbcompressError
from mbcompress.cli import main
from mbcompress.registry.discovery import Registry

SHAPE = (3, 32, 32)


HERE = "foreign_models"


def python_model(target: str, **options: Any) -> dict[str, Any]:
    return {"source": "python", "target": target, "num_classes": 10, "input_size": 32, **options}


def test_a_python_target_is_built_with_its_args_and_weights(registry: Registry, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = HandWrittenMobileNetV3(classes=7)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    spec = python_model(f"{HERE}:HandWrittenMobileNetV3", args={"classes": 7}, num_classes=7)
    source = registry.build_model({**spec, "weights": str(tmp_path / "w.safetensors")})
    assert source.input_shape == SHAPE
    loaded = source.load()
    assert not loaded.training
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in model.state_dict().items())


BAD_AT_VALIDATION = {
    "form": ("Net", r"target: must be 'package\.module:callable', got 'Net'"),
    "module": ("foreign_model:Gelu", r"there is no module 'foreign_model' .*; did you mean 'foreign_models'\?"),
    "submodule": ("json.decode:X", r"there is no module 'json\.decode' in package 'json'; did you mean 'decoder'\?"),
    "attribute": (
        f"{HERE}:Gelo",
        r"module 'foreign_models' \(.*foreign_models\.py\) has no 'Gelo'; did you mean 'Gelu'",
    ),
}


@pytest.mark.parametrize("case", BAD_AT_VALIDATION)
def test_a_wrong_target_is_refused_before_anything_runs(registry: Registry, case: str) -> None:
    target, message = BAD_AT_VALIDATION[case]
    with pytest.raises(MbcompressError, match=message):
        registry.build_model(python_model(target))


@pytest.fixture
def dynamic_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that defines its names at run time, in the current directory."""
    source = """
        from torch import nn
        globals()["made"] = lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
        number = 3
        def text(): return "no module"
        def fails(size): return {}[size]
        def narrow(): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
        def picky(): return nn.Linear(5, 10)
        def __getattr__(name): raise AttributeError(name)
    """
    (tmp_path / "dynamic_net.py").write_text(textwrap.dedent(source))
    (tmp_path / "broken_net.py").write_text("import nothing_of_that_name\nNet = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("dynamic_net", "broken_net"):
        monkeypatch.setitem(sys.modules, name, None)  # so that undoing removes what is imported
        del sys.modules[name]
    return "dynamic_net"


BAD_AT_LOAD = {
    "import fails": (
        "broken_net:Net",
        {},
        r"importing broken_net raised ModuleNotFoundError: No module named 'noth.*:1\)$",
    ),
    "attribute": ("dynamic_net:mode", {}, r"^dynamic_net:mode: there is no 'mode'; did you mean 'made'\?$"),
    "not callable": ("dynamic_net:number", {}, r"must be callable, got 3$"),
    "not a module": ("dynamic_net:text", {}, r"must return an nn\.Module, got str$"),
    "args": (
        "dynamic_net:fails",
        {"sizes": 1},
        r"cannot be called with these args: missing a required argument: 'size'",
    ),
    "raises": ("dynamic_net:fails", {"size": 1}, r"^dynamic_net:fails: raised KeyError: 1 \(dynamic_net\.py:6\)$"),
    "classes": ("dynamic_net:narrow", {}, r"must return logits of shape \(2, 10\) here, got \(2, 4\)$"),
    "images": ("dynamic_net:picky", {}, r"the module cannot run on images of 3x32x32 \(RuntimeError: mat1 and mat2"),
}


@pytest.mark.parametrize("case", BAD_AT_LOAD)
def test_a_target_that_fails_is_one_sentence(registry: Registry, dynamic_module: str, case: str) -> None:
    target, args, message = BAD_AT_LOAD[case]
    source = registry.build_model(python_model(target, args=args))
    with pytest.raises(MbcompressError, match=message) as error:
        source.load()
    assert "\n" not in str(error.value)


def test_names_that_a_module_defines_at_run_time_are_found(registry: Registry, dynamic_module: str) -> None:
    assert isinstance(registry.build_model(python_model("dynamic_net:made")).load(), nn.Module)


def test_validation_does_not_run_the_module_and_finds_it_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "own" / "net.py").write_text("class Net: ...\nraise SystemExit('imported')\n")
    model = "{source: python, target: 'own.net:Net', num_classes: 10, input_size: 32}"
    (tmp_path / "r.yaml").write_text(f"model: {model}\ndata: {{name: digits}}\npasses: []\n")
    command = [
        sys.executable,
        "-c",
        "import sys; from mbcompress.cli import main; sys.exit(main())",
        "validate",
        "r.yaml",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("r.yaml: fine: python")


STAND_INS = {
    "timm": """
        from torch import nn
        def list_models(): return ["mobilenetv1_100", "mobilenetv4_conv_small"]
        def list_pretrained(): return ["mobilenetv1_100.ra4_e3600_r224_in1k"]
        def create_model(name, pretrained, num_classes, in_chans, wide=False):
            assert not pretrained
            if wide: raise ValueError("no wide one")
            return nn.Sequential(nn.Conv2d(in_chans, 8, 3), nn.Flatten(), nn.Linear(8 * 30 * 30, num_classes))
    """,
    "torchvision.models": """
        from torch import nn
        def list_models(module=None): return ["mobilenet_v2", "mobilenet_v3_small"]
        def get_model(name, weights, num_classes):
            assert weights is None
            return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 30 * 30, num_classes))
    """,
}


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for timm and torchvision, on sys.path."""
    for name, source in STAND_INS.items():
        path = tmp_path / name.replace(".", "/")
        path.mkdir(parents=True)
        (path / "__init__.py").write_text(textwrap.dedent(source))
    (tmp_path / "torchvision" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("timm", "torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, None)  # so that undoing removes what is imported
        del sys.modules[name]


@pytest.mark.parametrize(("source", "architecture"), [("timm", "mobilenetv1_100"), ("torchvision", "mobilenet_v2")])
@pytest.mark.usefixtures("hubs")
def test_an_architecture_by_name(registry: Registry, tmp_path: Path, source: str, architecture: str) -> None:
    from safetensors.torch import save_file

    spec = {"source": source, "architecture": architecture, "num_classes": 5, "input_size": 32}
    unpretrained = registry.build_model(spec)
    assert not unpretrained.pretrained
    model = unpretrained.load()
    assert model(torch.zeros(2, *SHAPE)).shape == (2, 5)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    again = registry.build_model({**spec, "weights": tmp_path / "w.safetensors"})
    assert again.pretrained
    assert torch.equal(again.load()[0].weight, model[0].weight)
    with pytest.raises(MbcompressError, match=r"'download' and 'weights' exclude each other"):
        registry.build_model({**spec, "weights": tmp_path / "w.safetensors", "download": True})


@pytest.mark.usefixtures("hubs")
def test_wrong_architectures_are_one_sentence(registry: Registry) -> None:
    spec = {"source": "timm", "num_classes": 5, "input_size": 32}
    with pytest.raises(MbcompressError, match=r"^model: timm has no architecture 'mobilenetv4'; did you mean 'mobilen"):
        registry.build_model({**spec, "architecture": "mobilenetv4"}).load()
    failing = registry.build_model({**spec, "architecture": "mobilenetv1_100", "args": {"wide": True}})
    with pytest.raises(MbcompressError, match=r"timm cannot build 'mobilenetv1_100' \(ValueError: no wide one\)$"):
        failing.load()


def test_a_build_for_another_torch_is_one_sentence(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    source = registry.build_model({"source": "torchvision", "architecture": "mobilenet_v2", "num_classes": 5})
    with pytest.raises(MbcompressError, match=r"torchvision cannot be imported with this torch \(RuntimeError: opera"):
        source.load()


@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_a_missing_extra_is_named_when_the_recipe_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == source else found(name, *rest))
    path = tmp_path / "r.yaml"
    path.write_text(
        f"model: {{source: {source}, architecture: mobilenet_v2, num_classes: 10}}\ndata: {{name: digits}}\npasses: []\n"
    )
    assert main(["validate", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.endswith(f"{source} is not installed; run `pip install 'mbcompress[{source}]'`\n")
    assert error.count("\n") == 1
