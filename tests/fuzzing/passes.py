"""Damaged passes, loaded by `mbcompress.load`, and damaged runs, described by `mbcompress info`."""

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

import mbcompress
from fuzzing import damage
from fuzzing.safetensors_files import describe
from fuzzing.suites import Reading
from mbcompress.checkpoint.manifest import write_manifest
from mbcompress.checkpoint.saving import save_pass
from mbcompress.contract.traits import Trait
from mbcompress.registry.discovery import discover

SHAPE = (3, 32, 32)
SPEC = {"source": "mobilenet_v1", "num_classes": 10, "width": 0.25, "input_size": 32}
ARGUMENTS: tuple[Any, ...] = (
    {"value": "images"}, {"value": "relu"}, {"weight": "head.weight"}, {"dtype": "float32"}, {"float": "nan"}, 0, 1, -1,
    2**62, [0, 2**40], [2**40] * 4, [[{"value": "images"}]], [{"value": "images"}] * 900, "mean", None, 0.5, [1] * 64,
)  # fmt: skip


class Own(nn.Module):
    """No source builds it, so that it is stored as a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        left, right = self.stem(images).relu().chunk(2, 1)
        logits: Tensor = self.head(torch.cat([right, left], 1).mean((2, 3)))
        return logits


class Passes:
    """Without a manifest, whose hashes would refuse every change at once."""

    def __init__(self, folder: Path) -> None:
        source = discover().build_model(SPEC)
        traits = frozenset({Trait.FLOAT})
        self.passes = {"source": folder / "by-source", "graph": folder / "by-graph"}
        save_pass(self.passes["source"], {"name": "train"}, source.load().eval(), SHAPE, traits, source)
        save_pass(self.passes["graph"], {"name": "own"}, Own().eval(), SHAPE, frozenset({Trait.INT8}), None)

    def prepare(self, random: Random, folder: Path) -> Reading:
        form = random.choice(("source", "graph", "graph"))
        place = Path(shutil.copytree(self.passes[form], folder / "pass"))
        name = random.choice([path.name for path in sorted(place.iterdir()) if path.name != "metrics.json"])
        path = place / random.choice((name, "graph.json" if form == "graph" else name))
        if path.suffix == ".json" and random.random() < 0.85:
            content = json.loads(path.read_text())
            graph = path.name == "graph.json" and random.random() < 0.6
            path.write_bytes(as_json(_in_graph(random, content) if graph else damage.in_structure(random, content)))
        else:
            path.write_bytes(damage.in_bytes(random, path.read_bytes()))
        if random.random() < 0.3:
            return lambda: describe(place)
        return lambda: mbcompress.load(place)


class Runs:
    """The documents of a run, with its manifest."""

    DOCUMENTS = ("manifest.json", "report.json", "environment.json", "recipe.yaml", "passes/01-own/metrics.json")

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.run.mkdir()
        own = Own().eval()
        metrics = {"name": "own", "seconds": 1.5, "metrics": {"validation_top1": 0.5, "parameters": 9, "macs": 9}}
        save_pass(self.run / "passes" / "01-own", metrics, own, SHAPE, frozenset({Trait.INT8}), None)
        side = {"accuracy": {"top1": {"value": 0.5}}, "size_bytes": 9, "latency": {"median_ms": 1.0}}
        report = {"name": "x", "data": {"name": "digits"}, "baseline": side, "result": side, "ratio": {"size": 2.0}}
        (self.run / "report.json").write_text(json.dumps(report))
        (self.run / "environment.json").write_text(json.dumps({"libraries": {"torch": "2"}, "seed": 0}))
        (self.run / "recipe.yaml").write_text("passes:\n- train: {training: {epochs: 1}}\n")

    def prepare(self, random: Random, folder: Path) -> Reading:
        run = Path(shutil.copytree(self.run, folder / "run"))
        write_manifest(run)
        path = run / random.choice(self.DOCUMENTS)
        if path.suffix == ".json" and random.random() < 0.8:
            path.write_bytes(as_json(damage.in_structure(random, json.loads(path.read_text()))))
        else:
            path.write_bytes(damage.in_bytes(random, path.read_bytes()))
        if path.name != "manifest.json" and random.random() < 0.7:
            write_manifest(run)
        shown = random.choice((run, run, run / "passes" / "01-own"))
        return lambda: describe(shown)


def _in_graph(random: Random, document: dict[str, Any]) -> dict[str, Any]:
    """Calls with other operators and arguments, which are looked at only when the network runs."""
    from mbcompress.checkpoint.operators import ALLOWED

    for _ in range(random.choice((1, 1, 2, 3))):
        node = random.choice(document["nodes"])
        match random.randrange(4):
            case 0:
                node["operator"] = random.choice(sorted(ALLOWED))
            case 1 if node["args"]:
                node["args"][random.randrange(len(node["args"]))] = random.choice(ARGUMENTS)
            case 2:
                node["args"].append(random.choice(ARGUMENTS))
            case _:
                operator = random.choice([*sorted(ALLOWED), "getitem"])
                arguments = [random.choice(ARGUMENTS) for _ in range(random.randrange(1, 5))]
                name = f"new{random.randrange(10**6)}"
                document["nodes"].append({"name": name, "operator": operator, "args": arguments})
                document["output"] = {"value": name}
    return document


def as_json(content: Any) -> bytes:
    """Text that may hold what JSON has no words for."""
    try:
        return json.dumps(content).encode()
    except (ValueError, RecursionError):
        return b"[" * 100_000
