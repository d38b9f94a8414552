"""`-o key=value` changes one value of the recipe and nothing else."""

from pathlib import Path
from typing import Any

import pytest

from mbcompress.errors import MbcompressError
from mbcompress.recipe import Document, override, read

TEXT = """\
model: {source: mobilenet_v2, num_classes: 10}
data: {name: digits}
passes:
  - train
  - prune: {target_macs: 0.5}
  - train: {training: {epochs: 2}}
measure:
"""


@pytest.fixture
def document(tmp_path: Path) -> Document:
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT)
    return read(path)


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("seed=7", ("seed",), 7),
        (" seed =7", ("seed",), 7),
        ("data.name=cifar10", ("data", "name"), "cifar10"),
        ("data={name: cifar10}", ("data",), {"name": "cifar10"}),
        ("model.weights=null", ("model", "weights"), None),
        ("model.weights=a=b.pt", ("model", "weights"), "a=b.pt"),
        ("export=[onnx]", ("export",), ["onnx"]),
        ("measure.rounds=9", ("measure", "rounds"), 9),
        ("budget.accuracy_drop=0.5", ("budget", "accuracy_drop"), 0.5),
        ("passes=[]", ("passes",), []),
        ("passes.prune.target_macs=0.4", ("passes", 1, "prune", "target_macs"), 0.4),
        ("passes.1.target_macs=0.4", ("passes", 1, "prune", "target_macs"), 0.4),
        ("passes[1].target_macs=0.4", ("passes", 1, "prune", "target_macs"), 0.4),
        ("passes[1].prune.target_macs=0.4", ("passes", 1, "prune", "target_macs"), 0.4),
        ("passes.prune.recovery.epochs=2", ("passes", 1, "prune", "recovery", "epochs"), 2),
        ("passes.prune={iterative_steps: 2}", ("passes", 1), {"prune": {"iterative_steps": 2}}),
        ("passes.0=qat", ("passes", 0), "qat"),
        ("passes.0.training.epochs=5", ("passes", 0, "train", "training", "epochs"), 5),
    ],
)
def test_assignment(document: Document, assignment: str, path: tuple[str | int, ...], value: object) -> None:
    override(document, [assignment])
    found: Any = document.data
    for part in path:
        found = found[part]
    assert found == value
    assert str(document.locate(path)) == f"-o {' '.join(assignment.split())}"


def test_nothing_else_changes(document: Document, tmp_path: Path) -> None:
    override(document, ["passes.prune.target_macs=0.4"])
    untouched = read(tmp_path / "recipe.yaml").data
    untouched["passes"][1]["prune"]["target_macs"] = 0.4
    assert document.data == untouched
    assert str(document.locate(("passes", 2, "train", "training", "epochs"))).endswith("recipe.yaml:6:32")


def test_in_order(document: Document) -> None:
    override(document, ["seed=1", "passes.prune.iterative_steps=2", "seed=2", "passes.prune={target_macs: 0.3}"])
    assert document.data["seed"] == 2
    assert document.data["passes"][1] == {"prune": {"target_macs": 0.3}}
    assert str(document.locate(("passes", 1, "prune", "iterative_steps"))) == "-o passes.prune={target_macs: 0.3}"


def test_errors_in_an_override_are_located_in_it(document: Document) -> None:
    """`num_classes` is in the file too, but the override has replaced it."""
    override(document, ["model={source: mobilenet_v1, num_classes: 1}"])
    assert str(document.locate(("model", "num_classes"))).startswith("-o model=")
    assert str(document.locate(("model", "num_classes"), at_key=True)).startswith("-o model=")


@pytest.mark.parametrize("assignment", ["", "=", "seed", ".=1", "[]=1", " =1"])
def test_not_an_assignment(document: Document, assignment: str) -> None:
    with pytest.raises(MbcompressError, match="must be key=value"):
        override(document, [assignment])


def test_entry_without_options(document: Document) -> None:
    document.data["passes"].append(None)
    with pytest.raises(MbcompressError, match=r"passes\[3\] is null, which has no options inside$"):
        override(document, ["passes.3.epochs=1"])


def test_long_assignments_are_shortened(document: Document) -> None:
    with pytest.raises(MbcompressError) as failure:
        override(document, ["seed=[" + "\n1," * 5000])
    assert len(str(failure.value)) < 250
    assert "\n" not in str(failure.value)
