import dataclasses
import gzip
import json
import re
from base64 import b64decode
from html.parser import HTMLParser
from itertools import pairwise

import pandas as pd
import pytest

from pipeline.evaluation.numbers import evaluate
from pipeline.evaluation.settings import Settings
from pipeline.evaluation.table import Column, Table
from pipeline.report import page
from pipeline.report.charts import Axis, Bars, Chart
from pipeline.report.page import Page, Section, Text
from pipeline.report.sections import SAMPLE_NOTICE, build_page

VOID = {"meta", "link", "img", "br"}


class Outline(HTMLParser):
    """What a page consists of; fails where a tag is closed that was not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> does not close what is open"

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def every(self, tag):
        return [attributes for name, attributes in self.seen if name == tag]


@pytest.fixture(scope="module")
def made(complete, evaluated) -> Page:
    provenance = {"revision": "4f2c9d1", "embeddings/faces.parquet": "ab" * 32}
    return build_page(
        complete,
        evaluated,
        dataset="utkface",
        rejects={"no_face": 7},
        provenance=provenance,
        params="seed: 1\n",
    )


@pytest.fixture(scope="module")
def text(made) -> str:
    return page.render(made)


def test_is_well_formed_and_loads_nothing(text):
    outline = Outline(text)
    for tag, attributes in outline.seen:
        for name in ("src", "href", "action", "data"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:")), f"<{tag} {name}={target[:60]}> leaves the page"
    assert "@import" not in text
    assert not re.search(r"url\((?!data:)", text.split("</style>")[0])
    policies = [meta for meta in outline.every("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policies[0]["content"]


def test_has_language_title_viewport_and_headings_in_order(text):
    outline = Outline(text)
    assert outline.every("html") == [{"lang": "en"}]
    assert any(meta.get("name") == "viewport" for meta in outline.every("meta"))
    levels = [int(tag[1]) for tag, _ in outline.seen if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_link_of_the_contents_has_its_target_and_every_id_is_unique(text):
    outline = Outline(text)
    ids = [attributes["id"] for _, attributes in outline.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in outline.every("a")} <= set(ids)


def test_every_figure_has_a_picture_with_words_and_its_data(text, made):
    charts = [block for section in made.sections for block in section.blocks if isinstance(block, Chart)]
    outline = Outline(text)
    pictures = outline.every("img")
    assert [picture["alt"] for picture in pictures] == [chart.alt for chart in charts]
    for picture, chart in zip(pictures, charts, strict=True):
        assert b64decode(picture["src"].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
        data = re.search(rf'id="data-{chart.name}">(.*?)</script>', text).group(1)
        assert json.loads(data)["data"], chart.name


def test_plotly_is_unpacked_to_what_its_package_holds(text):
    packed = re.search(r'id="plotly">(.*?)</script>', text).group(1)
    source = gzip.decompress(b64decode(packed))
    assert b"plotly.js v" in source[:200]
    assert source == (page.files(page.plotly) / "package_data" / "plotly.min.js").read_bytes()


def test_stays_under_six_megabytes(text):
    assert len(text.encode()) < 6_000_000


def test_the_same_page_gives_the_same_bytes(made, text, tmp_path):
    page.write(made, tmp_path / "index.html")
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == text


def test_tells_rejects_provenance_and_parameters(text):
    words = " ".join(Outline(text).texts)
    for expected in ("no_face", "4f2c9d1", "ab" * 32, "seed: 1"):
        assert expected in words


def test_only_the_rendered_sample_carries_its_notice(complete, evaluated, text):
    assert SAMPLE_NOTICE not in text
    sample = dataclasses.replace(build_page(complete, evaluated, dataset="sample"), sections=())
    assert "say nothing about people" in page.render(sample)


def test_degrades_where_parts_are_absent(complete):
    fixed = dataclasses.replace(complete, runs=complete.runs[:1], baselines=None)
    bare = build_page(fixed, evaluate(fixed, Settings(resamples=10)), dataset="faces")
    titles = [section.title for section in bare.sections]
    assert "Provenance" not in titles
    Outline(page.render(bare))


def test_a_section_of_another_part_is_added_without_touching_the_template(complete, evaluated):
    chart = Chart(
        "extra",
        "Extra",
        "An extra chart",
        Axis("x", categories=("a",)),
        Axis("y"),
        (Bars("b", ["a"], [1.0], 0),),
    )
    table = Table("extra_table", "More", pd.DataFrame({"x": [1.5]}), (Column("x", "x", ".1f"),))
    section = Section("Calibration & more", "Words.", (chart, table, Text("log", "line")))
    made = build_page(complete, evaluated, dataset="faces", more=[section], params="seed: 1")
    assert [part.title for part in made.sections[-2:]] == ["Calibration & more", "Provenance"]
    outline = Outline(page.render(dataclasses.replace(made, sections=made.sections[-2:])))
    assert {"id": "calibration-more"} in outline.every("section")
    assert "An extra chart" in [picture["alt"] for picture in outline.every("img")]
    assert "1.5" in outline.texts


def test_nothing_in_the_data_becomes_markup():
    nasty = '<script>alert("x")</script>&'
    frame = pd.DataFrame({"x": [nasty]})
    chart = Chart(
        "c",
        nasty,
        nasty + '"',
        Axis(nasty, categories=("</script>",)),
        Axis("y"),
        (Bars(nasty, ["</script>"], [1.0], 0),),
        nasty,
    )
    section = Section(
        nasty, nasty, (Table("t", nasty, frame, (Column("x", nasty),), nasty), chart, Text(nasty, nasty))
    )
    text = page.render(Page(nasty, nasty, nasty, [page.Tile(nasty, nasty, nasty, nasty)], [nasty], [section]))
    Outline(text)
    assert "<script>alert" not in text
    drawn = json.loads(re.search(r'id="data-c">(.*?)</script>', text).group(1))["data"][0]["name"]
    assert drawn == nasty.replace("&", "&amp;").replace("<", "&lt;")  # Plotly reads HTML in names


def test_a_table_without_rows_says_none():
    section = Section("s", "", (Table("t", "T", pd.DataFrame({"x": []}), (Column("x", "x"),)),))
    assert "none" in Outline(page.render(Page("p", sections=[section]))).texts


def test_no_password_stands_on_the_page_be_it_in_a_comment():
    told = "seed: 1\n# uri: http://me:S3CRET@h\nmax_tokens: 100\n"
    chart = Chart("c", told, told, Axis(told, categories=("a",)), Axis("y"), (Bars(told, ["a"], [1.0], 0),))
    section = Section("s", told, (Text("params.yaml", told), chart))
    text = page.render(Page("t", told, told, findings=[told], sections=[section]))
    assert "S3CRET" not in text
    assert "http://me:***@h" in text
    assert "max_tokens: 100" in text
