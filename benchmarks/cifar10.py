"""CIFAR-10 (JPEG): the bundled models compressed by mbcompress and by other tools, from the same weights.

`python benchmarks/cifar10.py run FOLDER` starts the runs, each from a recipe `recipes/*_cifar10.yaml` with a few
options changed. It takes hours; the same command resumes after an interruption.
`python benchmarks/cifar10.py table FOLDER` opens the files of all finished runs, one process each, and prints a table:
accuracy on all test images, and latency of one image on one thread in interleaved rounds. The table includes the files
of the other tools in `peers.py`, whose packages must be installed.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import yaml
from peers import File, Measured, Subject, Tools, from_recipe, measure
from pydantic import Field

from mbcompress import Context, DistillationConfig, Pass, TrainingConfig, compress
from mbcompress.cli.console import front
from mbcompress.graph import count_macs
from mbcompress.measure.statistics import mcnemar, proportion, spread
from mbcompress.registry.discovery import Registry, discover

RECIPES = Path(__file__).parent.parent / "recipes"
NAMES = {"v1": "MobileNetV1", "v2": "MobileNetV2", "v3": "MobileNetV3-small"}
NETWORKS = {key: name for key, name in NAMES.items() if (RECIPES / f"{key}_cifar10.yaml").is_file()}
"""Models with a recipe for CIFAR-10."""
ROUNDS, ROUND_MS = 40, 100.0
BISECTIONS = 9
LONG = 16
"""Epochs of the variant that shows the effect of longer recovery; the other variants use the recipe's epochs."""
PEER = "int8 by "


class TorchPruning(Pass):
    """torch-pruning as in its README: L2 importance, the same ratio in every layer, then training on the labels."""

    name: ClassVar[str] = "torch_pruning"
    target_macs: float = Field(gt=0, lt=1, description="Largest ratio to the MACs of the original.")
    recovery: TrainingConfig
    distillation: DistillationConfig | None = None

    def apply(self, model: Any, context: Context) -> Any:
        """Find the pruning ratio by bisection, prune once, and train."""
        import copy

        import torch_pruning as tp
        from torch import nn

        from mbcompress.training import fit

        example = context.example()
        whole = count_macs(model, example)

        def pruned(ratio: float) -> Any:
            smaller = copy.deepcopy(model).requires_grad_(True)
            pruner = tp.pruner.BasePruner(
                smaller,
                example,
                importance=tp.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=ratio,
                ignored_layers=[layer for layer in smaller.modules() if isinstance(layer, nn.Linear)][-1:],
                round_to=8,
            )
            pruner.step()
            return smaller

        low, high = 0.0, 0.95
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            fits = count_macs(pruned(middle), example) <= self.target_macs * whole
            low, high = (low, middle) if fits else (middle, high)
        model = pruned(high)
        fit(model, context, self.recovery, distillation=self.distillation, label=self.name)
        return model


@dataclass(frozen=True)
class Variant:
    """A variant of a model's recipe."""

    name: str
    share: float | None = None
    """Target ratio to the MACs of the original; None for no pruning."""
    distilled: bool = False
    int8: bool = False
    trained: bool = False
    """Whether QAT distills from the float model for an epoch, instead of calibration only."""
    criterion: str = "taylor"
    seed: int = 0
    epochs: int | None = None
    """Epochs of the recovery; None for those of the recipe."""
    peer: bool = False
    """Whether to prune with torch-pruning."""

    def folder(self, network: str) -> str:
        """Name of the run's directory, unique for every recipe."""
        digest = hashlib.sha256(repr(self.document(network)).encode()).hexdigest()[:6]
        return "-".join([*self.name.replace(",", "").replace("%", "").split(), digest])

    def document(self, network: str) -> dict[str, Any]:
        """The recipe of this variant."""
        document: dict[str, Any] = yaml.safe_load((RECIPES / f"{network}_cifar10.yaml").read_text())
        prune, qat = document["passes"]
        options = prune["prune"]
        recovery = {**options["recovery"], **({"epochs": self.epochs} if self.epochs else {})}
        distillation = options["distillation"] if self.distilled else None
        passes: list[Any] = []
        if self.peer:
            passes.append(TorchPruning(target_macs=self.share or 1, recovery=TrainingConfig(**recovery)))
        elif self.share:
            changed = {"target_macs": self.share, "criterion": self.criterion, "recovery": recovery}
            passes.append({"prune": {**options, **changed, "distillation": distillation}})
        if self.int8:
            gentle = {"training": {"epochs": 1, "lr": 0.0005, "ema": 0.998}, "distillation": {"alpha": 1.0}}
            passes.append({"qat": gentle if self.trained else qat["qat"]})
        return {**document, "passes": passes, "seed": self.seed, "budget": {}, "measure": {"threads": [1]}}


def variants(network: str) -> Iterator[Variant]:
    """Yield the variants of a model, most important first."""
    yield Variant("int8", int8=True)
    for share, distilled in ((0.3, True), (0.5, True), (0.3, False), (0.5, False)):
        name = f"{share:.0%} of MACs" + (", distilled" if distilled else "")
        yield Variant(name, share, distilled)
        yield Variant(f"{name}, int8", share, distilled, int8=True)
    if network == "v2":
        yield Variant("50% of MACs, torch-pruning", 0.5, peer=True)
    if network == "v3":
        for criterion in ("l1", "random"):
            yield Variant(f"30% of MACs, {criterion} channels", 0.3, criterion=criterion)
        for seed in (1, 2):
            yield Variant(f"30% of MACs, seed {seed}", 0.3, seed=seed)
            yield Variant(f"30% of MACs, distilled, seed {seed}", 0.3, distilled=True, seed=seed)
    name = f"30% of MACs, distilled, {LONG} epochs"
    yield Variant(name, 0.3, distilled=True, epochs=LONG)
    yield Variant(f"{name}, int8", 0.3, distilled=True, epochs=LONG, int8=True)
    yield Variant("int8, trained", int8=True, trained=True)


def make_runs(folder: Path, networks: list[str]) -> None:
    """Run the variants that are missing in the folder."""
    for network in networks:
        for variant in variants(network):
            out = folder / network / variant.folder(network)
            if not (out / "report.json").exists():
                print(f"{network}, {variant.name}", flush=True)
                with front(shown=True) as progress:
                    compress(None, variant.document(network), out=out, progress=progress)


@dataclass(frozen=True)
class Row:
    """One line of the table; `macs` is None if unknown."""

    file: File
    macs: int | None
    seconds: float = 0.0
    """Duration of the passes that did not come from the cache."""


def rows_of(folder: Path, network: str, subject: Subject, registry: Registry) -> list[Row]:
    """Rows for the baseline, the finished runs, and the other tools."""
    found: list[Row] = []
    for variant in variants(network):
        run = folder / network / variant.folder(network)
        if not (run / "report.json").exists():
            continue
        report = json.loads((run / "report.json").read_text())
        for artifact in sorted(report["artifacts"], key=lambda each: each["role"] != "baseline"):
            if artifact["role"] == "baseline" and found:
                continue
            runtime = registry.runtimes.build(artifact["runtime"], {}, registry)
            macs, path = report[artifact["role"]]["macs"], run / artifact["path"]
            if artifact["role"] == "baseline":
                found.append(Row(File("fp32", path, runtime), macs))
            else:
                seconds = sum(step["seconds"] for step in report["passes"] if not step.get("cached"))
                found.append(Row(File(variant.name, path, runtime), macs, seconds))
    if found:
        directory = folder / network / "peers"
        directory.mkdir(exist_ok=True)
        fp32, macs = found[0].file.path, found[0].macs
        peers = Tools(subject, registry, directory).peers(fp32)
        found[1:1] = [Row(replace(peer, label=PEER + peer.label), macs) for peer in peers]
    return found


def table(rows: list[Row], measured: list[Measured]) -> Iterator[str]:
    """Lines of Markdown; the first file is the reference."""
    yield "| | top-1 (95 % interval) | points | p | kB | MACs | int8 convolutions | ms (5-95 %) | times faster |"
    yield "|---|---|---|---|---|---|---|---|---|"
    base = measured[0]
    for row, found in zip(rows, measured, strict=True):
        file = row.file
        top1 = proportion(found.correct)
        points = 100 * (top1["value"] - base.correct.mean())
        p_value = mcnemar(base.correct, found.correct)["p_value"]
        ratio = spread(base.times.over(found.times))
        ms, count = spread(found.times.calls), found.convolutions
        yield (
            f"| {file.label} | {top1['value']:.2%} ({top1['low']:.2%} to {top1['high']:.2%}) | {points:+.2f} | "
            f"{p_value:.3f} | {file.size / 1000:.0f} | "
            f"{f'{row.macs / 1e6:.1f} M' if row.macs else ''} | {count.int8} of {count.total} | "
            f"{ms['median']:.3f} ({ms['p5']:.3f} to {ms['p95']:.3f}) | "
            f"{ratio['median']:.2f} ({ratio['p5']:.2f} to {ratio['p95']:.2f}) |"
        )


def paired(files: list[File], measured: list[Measured]) -> Iterator[str]:
    """Paired comparison of runs with and without a teacher."""
    correct = {file.label: found.correct for file, found in zip(files, measured, strict=True)}
    for name, with_teacher in correct.items():
        alone = name.replace(", distilled", "")
        if alone != name and alone in correct:
            test = mcnemar(correct[alone], with_teacher)
            gain = 100 * (with_teacher.mean() - correct[alone].mean())
            yield (
                f"- {alone}: a teacher gained {gain:+.2f} points ({test['result_only']} images correct only with it, "
                f"{test['baseline_only']} only without it, p = {test['p_value']:.4f})"
            )


def against_peers(files: list[File], measured: list[Measured]) -> Iterator[str]:
    """Speedup of our int8 files over the fastest int8 file of the other tools."""
    pairs = list(zip(files, measured, strict=True))
    peers = [pair for pair in pairs if pair[0].label.startswith(PEER)]
    if not peers:
        return
    fastest, theirs = min(peers, key=lambda pair: spread(pair[1].times.calls)["median"])
    for file, found in pairs:
        if file.label.endswith("int8"):
            ratio = spread(theirs.times.over(found.times))
            yield (
                f"- {file.label}: {ratio['median']:.2f} ({ratio['p5']:.2f} to {ratio['p95']:.2f}) times faster than "
                f"{fastest.label}, {files[0].size / file.size:.1f} times smaller than {files[0].label}"
            )


def print_tables(folder: Path, networks: list[str]) -> None:
    """Print the tables of all models."""
    registry = discover()
    for network in networks:
        subject = from_recipe(RECIPES / f"{network}_cifar10.yaml", registry)
        if not (rows := rows_of(folder, network, subject, registry)):
            continue
        files = [row.file for row in rows]
        measured = measure(files, subject.splits, ROUNDS, ROUND_MS)
        print(f"## {NETWORKS[network]}\n")
        print("\n".join(table(rows, measured)), end="\n\n")
        print("\n".join([*paired(files, measured), *against_peers(files, measured)]), end="\n\n")
        print(f"The passes of these runs took {sum(row.seconds for row in rows) / 3600:.1f} hours.\n", flush=True)


def main() -> None:
    """Make the runs, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("do", choices=("run", "table"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    arguments = parser.parse_args()
    (make_runs if arguments.do == "run" else print_tables)(arguments.folder, arguments.only)


if __name__ == "__main__":
    main()
