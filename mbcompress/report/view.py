"""A report in the words that both the Markdown and the HTML template set."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mbcompress.report import wording
from mbcompress.report.budget import Gate, budget_verdict, gates
from mbcompress.report.comparison import Row, Verdict, rows, verdict
from mbcompress.report.method import method
from mbcompress.report.runtimes import Deployment, deployments, side_by_side
from mbcompress.report.stages import Stage, stages, validation_images

if TYPE_CHECKING:
    from mbcompress.report.wording import Change

CLASSES = 20  # named in full; of more, the first few
PICTURE, TABLE = ".svg", ".csv"
ROWS = 200  # of a table that a pass has written; the file has the others


@dataclass(frozen=True)
class Comparison:
    """Baseline against result in one runtime."""

    runtime: str
    verdict: Verdict
    rows: list[Row]


@dataclass(frozen=True)
class Artifact:
    """A file of the run."""

    path: str
    role: str
    runtime: str
    size: str
    bytes: str
    sha256: str


@dataclass(frozen=True)
class Document:
    """What a pass has written beside its model."""

    made_by: str
    path: str
    is_picture: bool


@dataclass(frozen=True)
class Table:
    """A table that a pass has written."""

    head: list[str]
    rows: list[list[str]]
    left_out: int
    """Rows that are in the file alone."""


def table_of(content: bytes) -> Table | None:
    """A CSV document in UTF-8 with a line of names; None if it is not one."""
    try:
        lines = list(csv.reader(io.StringIO(content.decode("utf-8", "replace"))))
    except csv.Error:
        return None
    head, rows = (lines[0], lines[1:]) if lines else ([], [])
    return Table(head, rows[:ROWS], max(0, len(rows) - ROWS))


@dataclass(frozen=True)
class View:
    """What the templates set; every field is text or made of text."""

    name: str
    created: str
    moment: str
    subject: list[tuple[str, str]]
    first: Comparison
    others: list[Comparison]
    deployments: list[Deployment]
    side_by_side: str
    gates: list[Gate]
    budget: Change
    stages: list[Stage]
    validation_images: int
    artifacts: list[Artifact]
    documents: list[Document]
    feeding: list[tuple[str, str]]
    method: list[str]


def view_of(report: dict[str, Any]) -> View:
    """The whole report, worded."""
    return View(
        name=report["name"],
        created=report["created"],
        moment=wording.moment(report["created"]),
        subject=_subject(report),
        first=_comparison(report),
        others=[_comparison(other) for other in report["other_runtimes"]],
        deployments=deployments(report),
        side_by_side=side_by_side(report) if report.get("runtimes") else "",
        gates=gates(report),
        budget=budget_verdict(report),
        stages=stages(report),
        validation_images=validation_images(report),
        artifacts=[_artifact(artifact) for artifact in report["artifacts"]],
        documents=[_document(document) for document in report.get("documents", ())],
        feeding=_feeding(report["preprocessing"]),
        method=method(report),
    )


def _comparison(comparison: dict[str, Any]) -> Comparison:
    return Comparison(comparison["runtime"], verdict(comparison), rows(comparison))


def _artifact(artifact: dict[str, Any]) -> Artifact:
    size = artifact["bytes"]
    return Artifact(
        artifact["path"],
        artifact["role"],
        artifact["runtime"],
        wording.file_size(size),
        f"{size:,}",
        artifact["sha256"],
    )


def _document(document: dict[str, Any]) -> Document:
    return Document(document["pass"], document["path"], document["path"].endswith(PICTURE))


def _subject(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Model and data; a program that brought its own has given them no name."""
    model, data = report["model"] or {}, report["data"]
    options = [
        f"{wording.title_of(key)} {value}" for key, value in model.items() if key != "source" and value is not None
    ]
    images = ", ".join(f"{count} {name}" for name, count in data["images"].items())
    return [
        ("Model", ", ".join([str(model["source"]), *options]) if model else "brought by the program that ran this"),
        ("Data", f"{data.get('name', 'brought by the program that ran this')}: {images} images"),
        ("Data SHA-256", data["sha256"]),
    ]


def _feeding(preprocessing: dict[str, Any]) -> list[tuple[str, str]]:
    """How to make an input of the file out of an image."""
    return [
        ("Input", f"{preprocessing['input']}, float32"),
        ("Shape", f" {wording.TIMES} ".join(str(length) for length in preprocessing["shape"])),
        (
            "Value",
            preprocessing["formula"] + (", with pixels from 0 to 255" if "255" in preprocessing["formula"] else ""),
        ),
        ("Mean", _channels(preprocessing["mean"])),
        ("Std", _channels(preprocessing["std"])),
        ("Output", f"{_outputs(preprocessing)}, in this order: {_classes(preprocessing['classes'])}"),
    ]


def _outputs(preprocessing: dict[str, Any]) -> str:
    outputs, classes = preprocessing["outputs"], len(preprocessing["classes"])
    return "one logit a class" if outputs == classes else f"{outputs} logits, of which the first {classes} are classes"


def _channels(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _classes(names: list[str]) -> str:
    named = ", ".join(names[:CLASSES])
    return named if len(names) <= CLASSES else f"{named} and {len(names) - CLASSES} more, in report.json"
