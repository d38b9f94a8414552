"""`compress()` takes objects of the caller's own classes, which no distribution has installed, as they are."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import Field
from torch import nn
from toys import Lines
from toys import toy as toy

import mbcompress
from mbcompress.testing.tiny import tiny_splits

Recipe = dict[str, Any]


class Scale(mbcompress.Pass):
    """Multiplies the logits, and tells whom it was given."""

    name = "scale"
    by: float = Field(default=2.0, description="Factor.")
    tell: Callable[..., None] = Field(default=print, description="What only a program can give.")

    def apply(self, model: nn.Module, context: mbcompress.Context) -> nn.Module:
        self.tell(self, model, context.input_shape)
        context.metrics["scaled"] = self.by
        return Scaled(model, self.by)


class Scaled(nn.Module):
    def __init__(self, model: nn.Module, by: float) -> None:
        super().__init__()
        self.model, self.by = model, by

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(images) * self.by
        return logits


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 10, 3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(images).mean((2, 3))
        return logits


class Mine(mbcompress.ModelSource):
    """A source with the name of an installed one."""

    name = "mobilenet_v1"
    rebuildable = True
    module: nn.Module = Field(description="An object that no recipe can hold.")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return 3, 32, 32

    def load(self) -> nn.Module:
        return self.module.eval()


class Stripes(mbcompress.Dataset):
    """Synthetic."""

    name = "my_stripes"

    def load(self, input_shape: tuple[int, int, int], seed: int) -> mbcompress.Splits:
        assert input_shape == (3, 32, 32)
        return tiny_splits()


class Share(mbcompress.Metric):
    """Of test images."""

    name = "share"

    def measure(self, predictions: mbcompress.Predictions) -> dict[str, mbcompress.Measured]:
        return {"share": mbcompress.Measured(1.0)}


def test_objects_of_the_callers_own_classes(toy: Recipe, tmp_path: Path) -> None:
    net, seen, said = Net(), list[Any](), Lines()
    step = Scale(by=3.0, tell=lambda *told: seen.append(told))
    recipe = {"passes": [step], "metrics": [Share()], "export": toy["export"], "measure": toy["measure"]}
    source = Mine(num_classes=10, module=net)
    result = mbcompress.compress(source, recipe, Stripes(), out=tmp_path / "run", progress=said)
    ((applied, given, shape),) = seen
    assert applied is step
    assert isinstance(given, Net)
    assert shape == (3, 32, 32)
    assert result.report["passes"][0]["metrics"]["scaled"] == 3.0
    assert result.report["metrics"]["share"]["share"]["value"] == 1.0
    written = yaml.safe_load((result.path / "recipe.yaml").read_text())
    assert written["passes"][0]["scale"]["by"] == 3.0
    assert written["data"]["name"] == "my_stripes"
    assert "Net(" in written["model"]["module"]
    # stored as a graph: nobody could find the source by its name, and the installed one of that name is another
    described = json.loads((result.path / "passes" / "01-scale" / "architecture.json").read_text())
    assert (described["form"], described["source"]) == ("graph", None)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(mbcompress.load(result.path)(images), result.model(images))


class Nameless(mbcompress.Pass):
    def apply(self, model: nn.Module, context: mbcompress.Context) -> nn.Module:
        return model


class Wishful(Scale):
    requires = {"float"}  # type: ignore[assignment] # noqa: RUF012


class MyRuntime(mbcompress.Runtime):
    name = "mine"
    suffix = ".mine"

    def export(self, model: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None: ...
    def open(self, path: Path, threads: int) -> Any: ...
    def convolutions(self, path: Path) -> Any: ...
    def describe(self) -> str:
        return "mine"


@pytest.mark.parametrize(
    ("recipe", "problem"),
    [
        ([Nameless()], "passes[0]: pass Nameless has no 'name'; set it as a class attribute"),
        ([Share()], "passes[0]: must be a pass, an mbcompress.Pass, got an object of class Share"),
        ([Wishful()], "passes[0]: pass 'scale' requires {'float'}, which must be a frozenset of mbcompress.Trait"),
        (
            {"passes": [], "export": [MyRuntime()]},
            "export[0]: MyRuntime is not an installed runtime; the process that measures its files could not import",
        ),
        ({"passes": [], "data": Scale()}, "data: must be a dataset, an mbcompress.Dataset, got an object of class Sc"),
        ({"passes": [], "model": Stripes()}, "model: must be a model source, an mbcompress.ModelSource, got an object"),
    ],
)
def test_objects_that_cannot_be_used(recipe: Any, problem: str, tmp_path: Path) -> None:
    model = Mine(num_classes=10, module=Net()) if "model" not in recipe else None
    data = Stripes() if "data" not in recipe else None
    with pytest.raises(mbcompress.RecipeError) as raised:
        mbcompress.compress(model, recipe, data, out=tmp_path / "run")
    assert str(raised.value).startswith(f"recipe: {problem}")
    assert not (tmp_path / "run").exists()


def test_the_callers_random_numbers_go_on_as_they_were(toy: Recipe, tmp_path: Path) -> None:
    net = Net()
    torch.manual_seed(5)
    np.random.seed(5)
    before, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()
    recipe = {"passes": [Scale()], "export": toy["export"], "measure": toy["measure"]}
    mbcompress.compress(net, recipe, tiny_splits(), out=tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == legacy).all()


class Draws(mbcompress.Pass):
    """Notes what the generators that everybody shares give."""

    name = "draws"

    def apply(self, model: Any, context: Any) -> Any:
        context.metrics.update(
            torch=torch.rand(()).item(),
            numpy=float(np.random.rand()),
            python=random.random(),
        )
        return model


def test_whatever_a_pass_draws_follows_from_the_seed(toy: Recipe, tmp_path: Path) -> None:
    drawn = []
    for number in range(2):
        random.seed(number)
        np.random.seed(number)
        recipe = {"passes": [Draws(), Draws()], "export": toy["export"], "measure": toy["measure"]}
        report = mbcompress.compress(Net(), recipe, tiny_splits(), out=tmp_path / str(number), cache=False).report
        drawn.append([[step["metrics"][name] for name in ("torch", "numpy", "python")] for step in report["passes"]])
        assert (random.random(), np.random.rand()) == (
            random.Random(number).random(),
            np.random.RandomState(number).rand(),
        )
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][1]


POLITE = """
import json, logging, os, random, signal, sys, warnings
import numpy as np, torch
import torch._dynamo  # which sets TORCHINDUCTOR_CACHE_DIR
import mbcompress
from mbcompress.testing.tiny import tiny_splits

warnings.filterwarnings("default", message="of the program")
logging.getLogger("torch").setLevel(logging.CRITICAL)
logging.getLogger("torchao").setLevel(logging.DEBUG)
torch.manual_seed(5)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 10, 3, 2), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

def state():
    return {
        "environment": dict(os.environ),
        "warnings": [repr(each) for each in warnings.filters],
        "showwarning": warnings.showwarning is shown,
        "levels": {name: logging.getLogger(name).level for name in (None, "mbcompress", "torch", "torchao", "onnxscript")},
        "handlers": list(map(repr, logging.getLogger().handlers)),
        "disabled": logging.root.manager.disable,
        "signals": [repr(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "streams": [sys.stdout is streams[0], sys.stderr is streams[1], sys.excepthook is sys.__excepthook__],
        "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "modes": [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), str(torch.get_default_dtype())],
        "random": [str(torch.get_rng_state().sum()), str(np.random.get_state()[1].sum()), str(random.getstate()[1][:9])],
        "directory": os.getcwd(),
        "model": [net.training, str(net[0].weight.sum())],
    }

streams, shown = (sys.stdout, sys.stderr), warnings.showwarning
before = state()
recipe = json.loads(sys.argv[1])
mbcompress.compress(net, recipe, tiny_splits(), out="run")
after = state()
print(json.dumps({key: [before[key], after[key]] for key in before if before[key] != after[key]}))
"""


def test_a_call_leaves_the_process_as_it_was(toy: Recipe, tmp_path: Path) -> None:
    """In a process of its own, in which the call is the first that imports most libraries."""
    recipe = {"passes": ["ptq"], "export": ["onnx"], "measure": toy["measure"]}
    command = [sys.executable, "-c", POLITE, json.dumps(recipe)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {}
    assert done.stderr == ""


def test_a_module_that_cannot_be_copied_is_one_sentence(toy: Recipe, tmp_path: Path) -> None:
    layers = [torch.nn.Conv2d(3, 10, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    with pytest.warns(FutureWarning, match="weight_norm"):
        net = torch.nn.Sequential(torch.nn.utils.weight_norm(layers[0]), *layers[1:])
    net(torch.zeros(1, 3, 32, 32))
    recipe = {"passes": [], "export": toy["export"], "measure": toy["measure"]}
    with pytest.raises(mbcompress.MbcompressError, match=r"^model: cannot be copied \(RuntimeError: Only Tensors"):
        mbcompress.compress(net, recipe, tiny_splits(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
