"""What people are shown: no text acts on a terminal, a spreadsheet or a page."""

import csv
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.files import escaped, printable
from pipeline.core.shown import cell, complain, plain, say, uncelled
from pipeline.evaluation.table import Column, Table, as_csv
from pipeline.report import page
from pipeline.report.charts import Axis, Bars, Chart
from pipeline.report.interactive import plotly_json
from pipeline.report.page import Page, Section
from pipeline.report.png import png
from pipeline.serving.card import marked
from pipeline.stages.running import print_counts

PROJECT = Path(__file__).resolve().parents[2]
HOSTILE = {
    "formula": '=HYPERLINK("http://x";"y")',
    "plus": "+1+1",
    "minus": "-2+3",
    "at": "@SUM(A1)",
    "blank before": "  =1+1",
    "full width": "＝1+1",
    "tab": "\t=1+1",
    "return": "\r=1+1",
    "semicolon": "a;=1+1",
    "escape": "\x1b]0;owned\x07\x1b[31m",
    "bell": "a\x07b",
    "c1": "a\x9b31mb",
    "override": "a\u202egpj.exe",
    "isolate": "a\u2066b\u2069",
    "mark": "a\u200fb\u061cc",
    "zero width": "ad\u200bmin\u2060\ufeff",
    "joiner": "ad\u200dmin",
    "filler": "a\u3164b\uffa0",
    "soft hyphen": "a\u00adb",
    "tags": "a\U000e0041\U000e0042",
    "selector": "\ufe0fa",
    "lines": "a\nb\r\nc\u2028d\x85e",
    "nul": "a\0b",
    "surrogate": "a\udcffb",
    "html": "<a href='http://x'>x</a><script>alert(1)</script>",
    "rich": "[red]a[/nothing]",
}
UNSEEN = re.compile(
    "[\0-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\U000e0000-\U000e007f]"
)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_text_that_is_shown_is_all_there_is_to_see(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not UNSEEN.search(escaped(text))
    assert not UNSEEN.search(printable(text))
    say(text)
    complain(text)
    print_counts("stage", {text: text})
    told = capsys.readouterr()
    assert not UNSEEN.search((told.out + told.err).replace("\n", ""))
    assert len(told.err.splitlines()) == 1
    assert plain(text).plain == "\n".join(map(escaped, text.split("\n")))


@pytest.mark.parametrize(
    "text", ["café 1.jpg", "👩\u200d👧", "❤️", "نام\u200cخانوادگی", "a\u00a0b", "日本", "שלום"]
)
def test_text_of_every_script_stays_as_it_is(text: str) -> None:
    assert printable(text) == escaped(text) == cell(text) == text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_cell_is_a_formula_and_every_cell_gives_its_text_back(text: str) -> None:
    stored = cell(printable(text))
    assert not UNSEEN.search(stored)
    assert not re.search(r"(^|;)\s*[=+\-@＝＋－＠]", stored)
    assert uncelled(stored) == printable(text)


@given(
    st.text(
        st.sampled_from("a1\\'=-; \u200c\u200d\ufe0f\ufe0e\u3164\u202e\x85\n\udce9é❤👩\U000e0041")
        | st.characters()
    )
)
@example("\u202e\u200d")
@example("\x85\ufe0f\ufe0f\u200c")
def test_what_is_shown_once_is_shown_the_same_again_and_every_cell_gives_it_back(text: str) -> None:
    shown = printable(text)
    assert escaped(shown) == shown
    assert uncelled(cell(shown)) == shown


def test_cells_are_not_ambiguous() -> None:
    texts = ["=a", "'=a", "''=a", "a", "'a", r"a;=1", r"a\x3b=1", r"a\\x3b=1", "-1", "-", "a-b"]
    cells = [cell(printable(text)) for text in texts]
    assert len(set(cells)) == len(texts)
    assert [uncelled(one) for one in cells] == [printable(text) for text in texts]
    assert cell(-1.5) == -1.5


def hostile_table() -> Table:
    names = [text for name, text in HOSTILE.items() if name != "surrogate"]  # pandas takes none
    frame = pd.DataFrame({"group": names, "=mae": [-1.5] * len(names)})
    return Table("groups", names[9], frame, (Column("group", names[9]), Column("=mae", "MAE", ".1f")))


def test_tables_of_the_report_hold_no_formula_and_their_numbers_stay() -> None:
    rows = list(csv.reader(io.StringIO(as_csv(hostile_table()).decode())))
    assert rows[0] == ["group", "'=mae"]
    assert [row[0] for row in rows[1:]] == [cell(text) for text in hostile_table().frame["group"]]
    assert {row[1] for row in rows[1:]} == {"-1.5"}


def hostile_chart() -> Chart:
    names = tuple(text for name, text in HOSTILE.items() if name != "surrogate")
    bars = Bars(names[9], names, [1.0] * len(names), 0, names)
    return Chart(
        "chart", names[10], names[9], Axis(names[9], categories=names), Axis("MAE"), (bars,), names[9]
    )


def test_the_page_shows_names_as_text_and_isolates_what_runs_from_right_to_left() -> None:
    section = Section("groups", "of שלום עולם: 3.2", (hostile_table(), hostile_chart()))
    html = page.render(Page("title \x1b", findings=[HOSTILE["override"]], sections=(section,)))
    shown = html[html.index("<body>") : html.rindex('<script type="application/octet-stream"')]
    assert not UNSEEN.search(shown.replace("\n", "").replace("\u2068", "").replace("\u2069", ""))
    assert "<a href='http" not in shown
    assert "<script>alert" not in shown
    assert "of \u2068שלום עולם\u2069: 3.2" in shown


def test_figures_hold_nothing_unseen_and_no_link() -> None:
    chart = hostile_chart()
    text = plotly_json(chart)
    figure = json.loads(text)
    assert not UNSEEN.search(json.dumps(figure, ensure_ascii=False))
    assert "<a" not in text
    assert "&lt;a href" in text
    assert figure["data"][0]["x"] == figure["data"][0]["text"]
    assert png(Chart("c", HOSTILE["escape"], "", chart.x, chart.y, ()))[:4] == b"\x89PNG"


def test_a_text_in_markdown_begins_nothing() -> None:
    text = marked("a|b\n# c `d` [e](http://f) <img src=x> \\")
    assert not set("|\n`[]<>\\") & set(text.replace("\\n", ""))
    assert "://" not in text


def test_everything_that_is_printed_goes_through_one_place() -> None:
    for path in (PROJECT / "pipeline").rglob("*.py"):
        if path.name != "shown.py":
            assert "typer.echo(" not in path.read_text(), path
