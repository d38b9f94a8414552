"""How the figures of a report came about, in sentences that hold for the run at hand."""

from __future__ import annotations

from typing import Any

from mbcompress.report import wording
from mbcompress.report.comparison import is_sparse


def method(report: dict[str, Any]) -> list[str]:
    """One paragraph for each kind of figure."""
    return [
        _baseline(report),
        _latency(report),
        _accuracy(report),
        *_metrics(report),
        *_sparsity(report),
        _rest(report),
    ]


def _baseline(report: dict[str, Any]) -> str:
    runtime = report["runtime"]
    after = report.get("measure", {}).get("baseline_after")
    which = ""
    if after == 0:
        which = "The baseline is the model as it was loaded. "
    elif after is not None:
        names = ", ".join(step["name"] for step in report["passes"][:after])
        which = f"The baseline is the model after the first {_passes(after)} of the recipe ({names}). "
    return f"{which}Baseline and result were exported alike and measured as files, in {runtime}."


def _passes(count: int) -> str:
    return "pass" if count == 1 else f"{count} passes"


def _latency(report: dict[str, Any]) -> str:
    measure = report.get("measure")
    rounds = f"{measure['rounds']} rounds" if measure else "rounds"
    threads = report["result"]["latency"]["threads"]
    each = "; each number of threads by itself" if len(report["result"]["latency_by_threads"]) > 1 else ""
    calls = f"{report['baseline']['latency']['calls']} and {report['result']['latency']['calls']} calls"
    return (
        f"Latency is the time of one call on a batch of {report['result']['latency']['batch']}. Each model ran in a "
        f"process of its own, warmed up first, and the two took turns in interleaved {rounds}, every other one in "
        f"reverse order, so that whatever slowed the machine slowed both{each}. Given are the median and the 5th to "
        f"95th percentile of all calls ({calls} at {wording.threads(threads)}); the change is the median ratio over "
        "the rounds, with its own 5th to 95th percentile, and so may differ a little from the ratio of the medians."
    )


def _accuracy(report: dict[str, Any]) -> str:
    paired, top1 = report["paired"], report["result"]["accuracy"]["top1"]
    return (
        f"Accuracy is counted on the {top1['n']} images of the test split, which no pass has seen; intervals are "
        "Wilson's, at 95 %. The p-value is of McNemar's exact paired test on the images that only one of the two "
        f"models got right ({paired['baseline_only']} only the baseline, {paired['result_only']} only the result): "
        "how often a split at least this uneven would come about if both were equally good. A large p on few images "
        "does not show that they are."
    )


def _metrics(report: dict[str, Any]) -> list[str]:
    summaries = report.get("metric_summaries", {})
    listed = " ".join(f"{wording.title_of(name)}: {summary}" for name, summary in summaries.items())
    return [f"Measured by plugins on what both files answered to the same test images: {listed}"] if listed else []


def _sparsity(report: dict[str, Any]) -> list[str]:
    """What zeros are good for, where there are any."""
    if not is_sparse(report["result"]):
        return []
    counted, ratio = report["result"]["zero_weights"], report["ratio"]["latency"]
    change = wording.ratio_change(ratio, wording.SPEED).text
    return [
        f"{100 * counted['zero'] / counted['total']:.1f} % of the result's weights, of convolutions and matrix "
        "products, are zero in the file. A dense runtime computes with zeros as with any other number: by themselves "
        f"they buy no time, only a file that compresses better. The measured latency ({change}) is that of "
        "everything that the recipe did."
    ]


def _rest(report: dict[str, Any]) -> str:
    return (
        "Size is that of the file; deflated, that of its bytes after zlib's strongest compression. Parameters and MACs "
        "(multiply-accumulates, of one image) are counted in the model that was exported. Peak memory is the largest "
        "resident size of the process, runtime included, and torch where an engine cannot be had without; “model” is "
        "how much of it came with the model. Int8 convolutions are those that the runtime executes on integers, "
        "counted in its optimized graph. "
        f"{_machine(report)}"
    )


def _machine(report: dict[str, Any]) -> str:
    environment = report.get("environment")
    if environment is None:
        return "The processor and the versions of all libraries are in environment.json."
    return (
        f"Measured on {environment['cpu']['model']} ({environment['cores']} cores); the versions of all libraries are "
        "in environment.json."
    )
