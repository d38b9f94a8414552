"""A report as text, for the Markdown and the HTML template."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mbcompress.report import wording
from mbcompress.report.budget import Gate, budget_verdict, gates
from mbcompress.report.comparison import Headline, Row, headline, rows
from mbcompress.report.method import method
from mbcompress.report.passes import PassRow, pass_rows, validation_images
from mbcompress.report.runtimes import RuntimeRow, runtime_rows, runtimes_caption

if TYPE_CHECKING:
    from mbcompress.report.wording import Change

CLASSES = 20  # listed; of more classes, the first 20
PICTURE, TABLE = ".svg", ".csv"
ROWS = 200  # shown of a pass's table; the file has all rows


@dataclass(frozen=True)
class ComparisonTable:
    """Baseline against result in one runtime."""

    runtime: str
    headline: Headline
    rows: list[Row]


@dataclass(frozen=True)
class FileRow:
    """An exported file."""

    path: str
    role: str
    runtime: str
    size: str
    bytes: str
    sha256: str


@dataclass(frozen=True)
class Document:
    """A document of a pass."""

    made_by: str
    path: str
    is_picture: bool


@dataclass(frozen=True)
class Table:
    """A table of a pass; `left_out` rows are in the file only."""

    head: list[str]
    rows: list[list[str]]
    left_out: int


def table_of(content: bytes) -> Table | None:
    """Read a CSV document in UTF-8 with a header line; return None if it is malformed."""
    try:
        lines = list(csv.reader(io.StringIO(content.decode("utf-8", "replace"))))
    except csv.Error:
        return None
    head, rows = (lines[0], lines[1:]) if lines else ([], [])
    return Table(head, rows[:ROWS], max(0, len(rows) - ROWS))


@dataclass(frozen=True)
class View:
    """What the templates show; every field is text or made of text."""

    name: str
    created: str
    moment: str
    subject: list[tuple[str, str]]
    first: ComparisonTable
    others: list[ComparisonTable]
    runtimes: list[RuntimeRow]
    runtimes_caption: str
    gates: list[Gate]
    budget: Change
    passes: list[PassRow]
    validation_images: int
    artifacts: list[FileRow]
    documents: list[Document]
    signature: list[tuple[str, str]]
    method: list[str]


def view_of(report: dict[str, Any]) -> View:
    """Convert the whole report to text."""
    return View(
        name=report["name"],
        created=report["created"],
        moment=wording.moment(report["created"]),
        subject=_subject(report),
        first=_comparison(report),
        others=[_comparison(other) for other in report["other_runtimes"]],
        runtimes=runtime_rows(report),
        runtimes_caption=runtimes_caption(report) if report.get("runtimes") else "",
        gates=gates(report),
        budget=budget_verdict(report),
        passes=pass_rows(report),
        validation_images=validation_images(report),
        artifacts=[_artifact(artifact) for artifact in report["artifacts"]],
        documents=[_document(document) for document in report.get("documents", ())],
        signature=_signature(report["preprocessing"]),
        method=method(report),
    )


def _comparison(comparison: dict[str, Any]) -> ComparisonTable:
    return ComparisonTable(comparison["runtime"], headline(comparison), rows(comparison))


def _artifact(artifact: dict[str, Any]) -> FileRow:
    size = artifact["bytes"]
    return FileRow(
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
    """Model and data; those passed from Python have no name."""
    model, data = report["model"] or {}, report["data"]
    options = [
        f"{wording.title_of(key)} {value}" for key, value in model.items() if key != "source" and value is not None
    ]
    images = ", ".join(f"{count} {name}" for name, count in data["images"].items())
    return [
        ("Model", ", ".join([str(model["source"]), *options]) if model else "passed from Python"),
        ("Data", f"{data.get('name', 'passed from Python')}: {images} images"),
        ("Data SHA-256", data["sha256"]),
    ]


def _signature(preprocessing: dict[str, Any]) -> list[tuple[str, str]]:
    """Input and output of the exported file."""
    return [
        ("Input", f"{preprocessing['input']}, float32"),
        ("Shape", f" {wording.TIMES} ".join(str(length) for length in preprocessing["shape"])),
        (
            "Normalization",
            preprocessing["formula"] + (", pixels from 0 to 255" if "255" in preprocessing["formula"] else ""),
        ),
        ("Mean", _channels(preprocessing["mean"])),
        ("Std", _channels(preprocessing["std"])),
        ("Output", f"{_outputs(preprocessing)}, in this order: {_classes(preprocessing['classes'])}"),
    ]


def _outputs(preprocessing: dict[str, Any]) -> str:
    outputs, classes = preprocessing["outputs"], len(preprocessing["classes"])
    return (
        "one logit per class"
        if outputs == classes
        else f"{outputs} logits, of which the first {classes} are the classes"
    )


def _channels(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _classes(names: list[str]) -> str:
    named = ", ".join(names[:CLASSES])
    return named if len(names) <= CLASSES else f"{named} and {len(names) - CLASSES} more, in report.json"
