"""How the figures of a report are measured, in sentences that describe the run at hand."""

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
        which = "The baseline is the model as loaded. "
    elif after is not None:
        names = ", ".join(step["name"] for step in report["passes"][:after])
        which = f"The baseline is the model after the first {_passes(after)} ({names}). "
    return f"{which}Baseline and result are exported the same way and measured as files in {runtime}."


def _passes(count: int) -> str:
    return "pass" if count == 1 else f"{count} passes"


def _latency(report: dict[str, Any]) -> str:
    measure, result = report.get("measure"), report["result"]
    rounds = f"{measure['rounds']} interleaved rounds" if measure else "interleaved rounds"
    separately = " Thread counts are measured separately." if len(result["latency_by_threads"]) > 1 else ""
    calls = f"{report['baseline']['latency']['calls']} and {result['latency']['calls']} calls"
    return (
        f"Latency is the time of one call with a batch of {result['latency']['batch']}. Each model runs in its own "
        f"process, after a warm-up, in {rounds}; every other round runs in reverse order, so that a disturbance of the "
        f"machine affects both models.{separately} The table shows the median and the 5th to 95th percentile of all "
        f"calls ({calls} at {wording.threads(result['latency']['threads'])}). The change is the median of the ratios "
        "per round, with its 5th to 95th percentile; it can differ slightly from the ratio of the medians."
    )


def _accuracy(report: dict[str, Any]) -> str:
    paired, top1 = report["paired"], report["result"]["accuracy"]["top1"]
    return (
        f"Accuracy is measured on the {top1['n']} images of the test split, which no pass can see. Intervals are 95 % "
        "Wilson intervals. The p-value is that of McNemar's exact paired test on the images that only one of the two "
        f"models classifies correctly ({paired['baseline_only']} only the baseline, {paired['result_only']} only the "
        "result): the probability of a split at least this uneven if both models were equally accurate. A large "
        "p-value on few images does not show that they are."
    )


def _metrics(report: dict[str, Any]) -> list[str]:
    summaries = report.get("metric_summaries", {})
    listed = " ".join(f"{wording.title_of(name)}: {summary}" for name, summary in summaries.items())
    return [f"Plugins compute these metrics from the predictions on the test images: {listed}"] if listed else []


def _sparsity(report: dict[str, Any]) -> list[str]:
    """What zeros do and do not change, if there are any."""
    if not is_sparse(report["result"]):
        return []
    counted, ratio = report["result"]["zero_weights"], report["ratio"]["latency"]
    change = wording.ratio_change(ratio, wording.SPEED).text
    return [
        f"{100 * counted['zero'] / counted['total']:.1f} % of the weights of the result's convolutions and matrix "
        "products are zero in the file. A dense runtime computes with zeros as with any other value: zeros alone save "
        f"no time, they only make the file compress better. The measured latency ({change}) is the effect of the whole "
        "recipe."
    ]


def _rest(report: dict[str, Any]) -> str:
    return (
        "File size is the size on disk; “zlib” is the size after zlib compression at the highest level. Parameters and "
        "MACs (multiply-accumulates for one image) are those of the exported model. Peak memory is the largest "
        "resident size of the process, including the runtime, and torch if the runtime needs it; “model” is the part "
        "that the model added. Int8 convolutions are those that the runtime executes on integers, counted in its "
        f"optimized graph. {_machine(report)}"
    )


def _machine(report: dict[str, Any]) -> str:
    environment = report.get("environment")
    if environment is None:
        return "environment.json lists the processor and the versions of all libraries."
    return (
        f"Measured on {environment['cpu']['model']} ({environment['cores']} cores); environment.json lists the "
        "versions of all libraries."
    )
