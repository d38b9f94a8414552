"""The renderings of a report: their text, that they agree, and that they are safe to open."""

import json
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from mbcompress.report import charts, wording
from mbcompress.report.budget import budget_verdict, gates
from mbcompress.report.comparison import headline, rows
from mbcompress.report.method import method
from mbcompress.report.passes import pass_rows
from mbcompress.report.render import render_html, render_markdown
from mbcompress.report.summary import summary_table
from mbcompress.report.view import ROWS
from mbcompress.report.wording import TIMES, TO

Report = dict[str, Any]
HOSTILE = '<script>alert("x")</script> & $x_{$ |cell| [bold red] `code` *b* \u6f22' + "_long_name" * 9
COMPARED = ("runtime", "baseline", "result", "ratio", "paired")


class Visible(HTMLParser):
    """Visible text of a page, and what the page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.references: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.hidden += tag == "style"
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "action", "srcset"):
                self.references.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            assert not name.startswith("on")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag == "style"

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.text.append(data)


def read(page: str) -> Visible:
    parser = Visible()
    parser.feed(page)
    parser.close()
    return parser


def seen(page: str) -> str:
    return " ".join("".join(read(page).text).split())


def printed(report: Report, width: int = 80) -> str:
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(summary_table(report))
    return capture.get()


def renderings(report: Report) -> dict[str, str]:
    """Plain text, without color and markup."""
    flat = " ".join(printed(report).split())
    return {"console": flat, "markdown": render_markdown(report), "html": seen(render_html(report))}


@pytest.fixture
def report() -> Report:
    """A run that improves everything but top-5."""
    loaded: Report = json.loads((Path(__file__).parent / "data" / "report.json").read_text())
    return loaded


@pytest.fixture
def worse(report: Report) -> Report:
    """The same run with baseline and result swapped, and even less accurate."""
    report["baseline"], report["result"] = report["result"], report["baseline"]
    report["result"]["accuracy"]["top1"] = {"k": 330, "n": 359, "value": 330 / 359, "low": 0.886, "high": 0.943}
    report["result"]["accuracy"]["top5"] = {"k": 350, "n": 359, "value": 350 / 359, "low": 0.953, "high": 0.987}
    report["paired"] = {"baseline_only": 25, "result_only": 3, "p_value": 2.7e-5}
    ratio = report["ratio"]
    for name in ("latency", "size", "macs", "parameters"):
        ratio[name] = 1 / ratio[name]
    for timed in ratio["latency_by_threads"]:
        timed |= {"median": 1 / timed["median"], "p5": 1 / timed["p95"], "p95": 1 / timed["p5"]}
    report["budget"] = [{"name": "latency_ratio", "limit": 2.0, "measured": ratio["latency"], "met": False}]
    return report


def test_the_headline_is_one_sentence(report: Report) -> None:
    expected = (
        f"2.25{TIMES} faster, 6.07{TIMES} smaller, 0.6 points more accurate (p = 0.73) on 359 test images, "
        "in ONNX Runtime 1.31.1 (CPU), 1 thread"
    )
    assert str(headline(report)) == expected
    for text in renderings(report).values():
        assert expected in text


def test_a_change_for_the_worse_shows_without_color(worse: Report) -> None:
    for name, text in renderings(worse).items():
        for word in ("SLOWER", "LARGER", "LOWER", "LESS accurate", "MORE", "FEWER", "MISSED"):
            assert word in text, (name, word)
        for word in (f"{TIMES} faster", f"{TIMES} smaller", "points more accurate"):
            assert word not in text, (name, word)
        assert f"2.25{TIMES} SLOWER" in text
        assert "p < 0.001" in text


def test_an_improvement_is_not_marked_as_worse(report: Report) -> None:
    assert [row.label for row in rows(report) if row.change.worse] == ["top-5 accuracy"]
    assert not any(change.worse for change in headline(report).changes)


def test_every_row_of_the_worse_run_is_marked(worse: Report) -> None:
    assert all(row.change.worse for row in rows(worse))
    assert 'class="worse"' in render_html(worse)
    assert f"**2.25{TIMES} SLOWER**" in render_markdown(worse)


def test_the_method_names_the_threads_of_the_figures(report: Report) -> None:
    """The smallest number, in any order of the recipe."""
    result = report["result"]
    result["latency_by_threads"] = [{**result["latency"], "threads": 4}, result["latency"]]
    assert any("calls at 1 thread)" in paragraph for paragraph in method(report))


def test_zero_weights_are_shown_if_rounding_does_not_explain_them(report: Report) -> None:
    assert "zero weights" not in [row.label for row in rows(report)]
    assert not any("computes with zeros" in paragraph for paragraph in method(report))
    report["result"]["zero_weights"] = {"total": 379846, "zero": 227908}
    row = next(row for row in rows(report) if row.label == "zero weights")
    assert (row.baseline.value, row.result.value, row.change.text) == ("0.0 %", "60.0 %", "228 k more")
    assert row.result.details == ("228 k of 380 k",)
    assert not row.change.worse
    for name, text in renderings(report).items():
        assert all(figure in text for figure in ("zero weights", "60.0 %", "228 k of 380 k", "228 k more")), name
    said = (
        "zeros alone save no time, they only make the file compress better. "
        f"The measured latency (2.25{TIMES} faster) is the effect of the whole recipe."
    )
    for text in (render_markdown(report), seen(render_html(report))):
        assert said in text


def test_the_compressed_file_size_is_one_row(report: Report) -> None:
    row = next(row for row in rows(report) if row.label == "file size, zlib")
    assert (row.baseline.value, row.result.value, row.change.text) == ("2.48 MB", "403 kB", f"6.14{TIMES} smaller")


def test_reports_without_counted_zeros_can_be_rendered(report: Report) -> None:
    for side in ("baseline", "result"):
        del report[side]["zero_weights"], report[side]["compressed_bytes"]
    assert not {"zero weights", "file size, zlib"} & {row.label for row in rows(report)}
    assert "computes with zeros" not in render_markdown(report)


def test_zeros_that_a_runtime_cannot_count_are_unknown(report: Report) -> None:
    report["baseline"]["zero_weights"] = None
    report["result"]["zero_weights"] = {"total": 100, "zero": 50}
    row = next(row for row in rows(report) if row.label == "zero weights")
    assert (row.baseline.value, row.change.text) == ("unknown", "")


def test_the_interval_of_a_slowdown_is_inverted_too(worse: Report) -> None:
    slower = next(row for row in rows(worse) if row.label == "latency, 1 thread")
    assert (slower.change.text, slower.note) == (f"2.25{TIMES} SLOWER", f"2.15{TO}2.29{TIMES}")


@pytest.mark.parametrize("direction", ["report", "worse"])
def test_all_renderings_show_the_same_figures(direction: str, request: pytest.FixtureRequest) -> None:
    chosen: Report = request.getfixturevalue(direction)
    texts = renderings(chosen)
    for row in rows(chosen):
        for figure in (
            row.label,
            row.baseline.value,
            row.result.value,
            *row.baseline.details,
            row.change.text,
            row.note,
        ):
            for name, text in texts.items():
                assert figure in text, (name, figure)
    for gate in gates(chosen):
        for name, text in texts.items():
            assert all(part in text for part in (gate.limit, gate.measured, gate.outcome.text)), name


def test_html_and_markdown_show_every_pass_with_its_split(report: Report) -> None:
    texts = (render_markdown(report), seen(render_html(report)))
    for text in texts:
        assert "validation split (144 images)" in text
        assert "best epoch 0" in text
    for row in pass_rows(report):
        assert all(value.text in text for value in (row.top1, row.parameters, row.macs) for text in texts)


def test_a_pass_that_costs_accuracy_is_marked_in_the_chart(report: Report) -> None:
    pruned = pass_rows(report)[1]
    assert pruned.top1.worse
    assert not pruned.macs.worse
    drawn = charts.passes_waterfall(report)
    assert drawn is not None
    assert drawn.count(">worse<") == sum(row.top1.worse for row in pass_rows(report)) == 1


def test_hashes_are_shown_in_full(report: Report) -> None:
    for artifact in report["artifacts"]:
        assert artifact["sha256"] in render_markdown(report)
        assert f'title="{artifact["sha256"]}"' in render_html(report)


def test_outputs_beyond_the_classes_are_shown(report: Report) -> None:
    assert "one logit per class, in this order: 0, 1, 2" in render_markdown(report)
    report["preprocessing"]["outputs"] = 1000
    assert "1000 logits, of which the first 10 are the classes, in this order: 0, 1, 2" in render_markdown(report)


def test_names_cannot_become_markup(report: Report) -> None:
    report["name"] = report["runtime"] = report["model"]["source"] = report["artifacts"][0]["path"] = HOSTILE
    report["passes"][0]["name"] = HOSTILE
    report["passes"][1]["metrics"][HOSTILE] = HOSTILE
    report["preprocessing"]["classes"] = [HOSTILE] * 1000
    page, markdown = render_html(report), render_markdown(report)
    assert "script" not in read(page).tags
    assert HOSTILE in "".join(read(page).text)
    assert "<script" not in markdown
    assert re.search(r"(?<!\\)\|cell", markdown) is None
    assert "[bold red]" in printed(report)


def test_a_line_break_in_a_name_stays_in_its_cell(report: Report) -> None:
    report["passes"][0]["name"] = "one\n\n# two"
    assert "| one # two |" in render_markdown(report)


def test_markdown_tables_are_rectangular(report: Report) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", render_markdown(report), re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_page_is_self_contained(report: Report) -> None:
    page = render_html(report)
    parsed = read(page)
    assert {"html", "title", "main", "table", "svg", "figcaption"} <= parsed.tags
    assert not {"script", "link", "iframe", "img", "object"} & parsed.tags
    assert all(reference.startswith("#") for reference in parsed.references)
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", page))
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {reference.removeprefix("#") for reference in parsed.references} <= set(parsed.ids)


def test_pictures_are_well_formed_and_described(report: Report) -> None:
    drawn = (charts.accuracy_against_latency(report), charts.passes_waterfall(report))
    for svg in drawn:
        assert svg is not None
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        assert root[0].tag.endswith("title")
        assert root[0].text
        assert root.get("aria-labelledby") == root[0].get("id")
        assert "currentColor" in svg  # legible in dark mode
        assert "<text" in svg  # text, not outlines
    assert "98.1 % at 0.299 ms" in drawn[0]


def test_tables_of_passes_are_shown(report: Report) -> None:
    paths = [f"passes/01-prune/{name}" for name in ("short.csv", "long.csv", "empty.csv", "broken.csv", "notes.txt")]
    report = {**report, "documents": [{"pass": "prune", "path": path} for path in paths]}
    written = {
        paths[0]: b"layer_name,share\n<b>,0.5\n\xff,1\n",
        paths[1]: b"number\n" + b"".join(b"%d\n" % number for number in range(ROWS + 3)),
        paths[2]: b"",
        paths[3]: b"a\rb\n" + b"x" * 200_000,
    }
    page = render_html(report, written)
    assert "layer name" in page
    assert "&lt;b&gt;" in page
    assert "The file has 3 more rows" in page
    assert seen(page).count("prune: passes/01-prune/") == len(paths)


def test_rendering_twice_gives_the_same_bytes(report: Report) -> None:
    assert render_html(report) == render_html(report)
    assert render_markdown(report) == render_markdown(report)


def test_a_users_matplotlib_settings_have_no_effect(report: Report) -> None:
    import matplotlib as mpl

    expected = charts.accuracy_against_latency(report)
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "figure.facecolor": "red"}):
        assert charts.accuracy_against_latency(report) == expected
        assert mpl.rcParams["font.size"] == 30


@pytest.mark.parametrize("direction", ["report", "worse"])
def test_the_summary_fits_in_80_columns(direction: str, request: pytest.FixtureRequest) -> None:
    chosen: Report = request.getfixturevalue(direction)
    text = printed(chosen)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    narrow = [line.strip() for line in text.splitlines()]
    assert any(re.fullmatch(r"top-1 accuracy .* % .* % .* points \w+", line) for line in narrow)  # no cell is wrapped


def test_another_runtime_has_its_own_table(report: Report, worse: Report) -> None:
    report = json.loads(json.dumps(report))
    other = {name: worse[name] for name in COMPARED}
    report["other_runtimes"] = [{**other, "runtime": "Runtime A"}, {**other, "runtime": "Runtime B"}]
    for text in renderings(report).values():
        assert "in Runtime A, 1 thread" in text
        assert "in Runtime B, 1 thread" in text
    assert render_html(report).count("<table") == 3 + 3
    ids = read(render_html(report)).ids
    assert len(ids) == len(set(ids))


def test_one_thread_count_gives_one_row(report: Report) -> None:
    for holder, key in ((report["baseline"], "latency_by_threads"), (report["result"], "latency_by_threads")):
        holder[key] = holder[key][:1]
    report["ratio"]["latency_by_threads"] = report["ratio"]["latency_by_threads"][:1]
    assert [row.label for row in rows(report) if row.label.startswith("latency")] == ["latency, 1 thread"]
    assert "2 threads" not in "".join(renderings(report).values())


def test_a_run_without_passes_and_budget(report: Report) -> None:
    report |= {"passes": [], "budget": [], "result": report["baseline"], "model": None}
    report["ratio"] |= {"latency": 0.999, "size": 1.0}
    report["paired"] = {"baseline_only": 0, "result_only": 0, "p_value": 1.0}
    assert charts.passes_waterfall(report) is None
    for text in renderings(report).values():
        assert "About the same speed, same size, same accuracy (p = 1.00)" in text
    assert read(render_html(report)).tags >= {"svg"}


def test_every_pass_has_a_row(report: Report) -> None:
    report["passes"] = [{**report["passes"][0], "name": f"pass{number}"} for number in range(12)]
    drawn = charts.passes_waterfall(report)
    assert drawn is not None
    assert all(f">pass{number}<" in drawn for number in range(12))


def test_optional_keys_of_the_report(report: Report) -> None:
    report["measure"] = {"rounds": 60, "round_ms": 20.0, "threads": None, "baseline_after": 1}
    report["environment"] = {"cpu": {"model": "Abacus 9"}, "cores": 2}
    text = seen(render_html(report))
    assert "The baseline is the model after the first pass (prune)." in text
    assert "60 interleaved rounds" in text
    assert "Measured on Abacus 9 (2 cores)" in text


@pytest.mark.parametrize(
    ("limit", "measured", "met", "shown"),
    [
        (2.0, 2.2455, True, "2.25"),
        (2.0, 1.9999, False, "1.9999"),
        (0.446, 0.44533, False, "0.445"),
        (0.454, 0.45449, True, "0.454"),
        (2.0, 2.0, True, "2.00"),
    ],
)
def test_a_limit_shows_on_which_side_the_figure_is(limit: float, measured: float, met: bool, shown: str) -> None:
    report = {"budget": [{"name": "size_ratio", "limit": limit, "measured": measured, "met": met}]}
    (gate,) = gates(report)
    assert (gate.limit, gate.measured) == (f"at least {limit}{TIMES}", f"{shown}{TIMES}")
    assert gate.outcome.text == ("met" if met else "MISSED")


def test_the_budget_as_a_sentence(report: Report) -> None:
    assert budget_verdict(report).text == "All 3 budget limits met"
    report["budget"][0] |= {"measured": 4.4568, "met": False}
    assert budget_verdict(report).text == "1 of 3 budget limits MISSED: accuracy drop"
    assert gates(report)[0].measured == "4.5 points"


def test_wording() -> None:
    assert [wording.file_size(n) for n in (0, 999, 452_090, 999_600, 2_743_482)] == [
        "0 B",
        "999 B",
        "452 kB",
        "1.00 MB",
        "2.74 MB",
    ]
    assert [wording.quantity(n) for n in (7, 700_490, 27_969_024)] == ["7", "700 k", "28.0 M"]
    assert [wording.significant(x) for x in (0, 0.01234, 0.668, 9.999, 1234.5)] == [
        "0",
        "0.0123",
        "0.668",
        "10.0",
        "1234",
    ]
    assert [wording.duration(s) for s in (1.25, 59.97, 3725)] == ["1.2 s", "1 min 00 s", "62 min 05 s"]
    assert [wording.p_value(p) for p in (1.0, 0.45, 0.0452, 1e-9)] == ["p = 1.00", "p = 0.45", "p = 0.045", "p < 0.001"]
    assert wording.percent(0.97493, 359) == "97.5 %"
    assert wording.percent(0.71878, 10_000) == "71.88 %"
    assert wording.moment("2026-11-22T15:11:11+01:00") == "2026-11-22 14:11 UTC"


def test_a_difference_too_small_to_print_is_not_called_the_same() -> None:
    assert wording.point_change(0.7, 0.69998, 50_000, wording.SCORE) == wording.Change("under 0.01 points LOWER", True)
    assert wording.ratio_change(1.002, wording.SPEED).text == "about the same speed"


def test_missing_glyphs_do_not_warn(report: Report) -> None:
    report["passes"][0]["name"] = "\u6f22$\\frac"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = charts.passes_waterfall(report)
    assert drawn is not None
    assert "\u6f22$\\frac" in drawn
