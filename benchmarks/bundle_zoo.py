"""Add the weights of a training run to the zoo: `python benchmarks/bundle_zoo.py RUN_DIR NAME`.

Writes NAME.safetensors (half precision) and NAME.json (model card with model, training and accuracy) to the zoo of the
model source. The accuracy on the card is that of the run's exported fp32 file; `tests/test_zoo.py` checks that the
bundled weights reach it.
"""

import json
import sys
from pathlib import Path

from safetensors.torch import load_file, save

from mbcompress.contract.models import ArchitectureSource
from mbcompress.files import sha256, write_atomically, write_json
from mbcompress.registry.discovery import discover

FIXED = ("source", "num_classes", "width", "input_size", "strides_removed")
"""Options that must match the weights; others may differ."""


def bundle(run: Path, name: str) -> None:
    """Copy the final weights of `run` to the zoo as `name`."""
    report = json.loads((run / "report.json").read_text())
    state = load_file(sorted((run / "passes").iterdir())[-1] / "state.safetensors")
    halves = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    source = discover().models.classes[report["model"]["source"]]
    if not issubclass(source, ArchitectureSource):
        raise SystemExit(f"model source {source.name!r} has no zoo")
    zoo = source.zoo.directory
    weights = zoo / f"{name}.safetensors"
    write_atomically(weights, save(halves))
    card = {
        "model": {key: report["model"][key] for key in FIXED if key in report["model"]},
        "data": report["data"],
        "top1": report["result"]["accuracy"]["top1"],
        "top5": report["result"]["accuracy"]["top5"],
        "passes": [{"name": step["name"], "seconds": round(step["seconds"])} for step in report["passes"]],
        "recipe": f"recipes/{report['name']}.yaml",
        "sha256": sha256(weights),
        "bytes": weights.stat().st_size,
    }
    write_json(zoo / f"{name}.json", card)


if __name__ == "__main__":
    bundle(Path(sys.argv[1]), sys.argv[2])
