"""The report as one HTML file that opens from disk, loads nothing, and reads on a phone.

A page is a list of sections, and a section a list of tables, charts and texts: whoever has something to
add makes a `Section`; the template stays as it is.
"""

import base64
import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import plotly
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from pipeline.core.credentials import masked
from pipeline.core.shown import lines
from pipeline.core.tables import atomic_file
from pipeline.evaluation.table import Table
from pipeline.report.charts import Chart
from pipeline.report.interactive import plotly_json
from pipeline.report.png import png

LEFT = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]"
LEFTWARD = re.compile(rf"{LEFT}+(?:\s+{LEFT}+)*")
"""Words of scripts that run from right to left."""


@dataclass(frozen=True)
class Text:
    """A longer text as it is, such as a file of parameters, folded away under its title."""

    title: str
    text: str


@dataclass(frozen=True)
class Picture:
    """A PNG as it is: `name` is its file's, `alt` says in words what it shows."""

    name: str
    title: str
    alt: str
    png: bytes
    caption: str = ""


Block = Table | Chart | Text | Picture


@dataclass(frozen=True)
class Section:
    """A part of the page: an introduction of one paragraph, then blocks in order."""

    title: str
    intro: str = ""
    blocks: tuple[Block, ...] = ()

    @property
    def slug(self) -> str:
        """The title as a link's target."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


class Tile(NamedTuple):
    """One number in large type at the top of the page."""

    label: str
    value: str
    unit: str
    note: str


@dataclass(frozen=True)
class Page:
    """Everything on the page; `notice` is a warning shown above all else."""

    title: str
    subtitle: str = ""
    notice: str = ""
    tiles: Sequence[Tile] = ()
    findings: Sequence[str] = ()
    sections: Sequence[Section] = ()


class Cell(NamedTuple):
    """A table's cell."""

    text: str
    number: bool
    best: bool


class Row(NamedTuple):
    """A table's row."""

    cells: list[Cell]
    marked: bool


def write(page: Page, path: Path) -> None:
    """Write a page; the same page gives the same bytes."""
    write_html(render(page), path)


def write_html(html: str, path: Path) -> None:
    """Write what `render` gave."""
    with atomic_file(path) as file:
        file.write(html.encode())


def render(page: Page) -> str:
    """A page as HTML."""
    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=select_autoescape(("html", "jinja")),
        undefined=StrictUndefined,
        finalize=shown,
    )
    environment.globals.update(groups_of=groups_of, rows_of=rows_of)
    sections = [
        {
            "title": section.title,
            "slug": section.slug,
            "intro": section.intro,
            "blocks": [block_of(block) for block in section.blocks],
        }
        for section in page.sections
    ]
    templates = files("pipeline.report") / "templates"
    template = environment.get_template("page.html.jinja")
    return template.render(
        page={**vars(page), "sections": sections},
        css=Markup((templates / "page.css").read_text(encoding="utf-8")),
        js=Markup((templates / "page.js").read_text(encoding="utf-8")),
        plotly=packed_plotly(),
    )


def shown(value: Any) -> Any:
    """A text on the page: what cannot be seen is escaped, what runs from right to left moves nothing else.

    Passwords are hidden: what people write into params.yaml, be it a comment, stands here as well.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return LEFTWARD.sub("\N{FIRST STRONG ISOLATE}\\g<0>\N{POP DIRECTIONAL ISOLATE}", lines(masked(value)))


@cache
def packed_plotly() -> Markup:
    """plotly.js compressed: 2 MB of text in place of 5, unpacked by the browser."""
    source = (files(plotly) / "package_data" / "plotly.min.js").read_bytes()
    return in_base64(gzip.compress(source, compresslevel=9, mtime=0))


def in_base64(data: bytes) -> Markup:
    """Bytes as the page holds them, which is no text to look for passwords in."""
    return Markup(base64.b64encode(data).decode())


def block_of(block: Block) -> dict[str, Any]:
    """A block as the template takes it."""
    match block:
        case Table():
            return {"kind": "table", "table": block}
        case Text():
            return {"kind": "text", "title": block.title, "text": block.text}
        case Picture():
            return {"kind": "picture", **vars(block), "png": in_base64(block.png)}
        case Chart():
            # Nothing in a chart's data may end the script element that holds it.
            data = plotly_json(block).replace("<", "\\u003c")
            return {
                "kind": "chart",
                "name": block.name,
                "title": block.title,
                "alt": block.alt,
                "caption": block.caption,
                "png": in_base64(png(block)),
                "json": Markup(data),
            }


def groups_of(table: Table) -> list[tuple[str, int]]:
    """A table's headings over several columns, with how many each spans; one entry if there are none."""
    return [(label, len(list(columns))) for label, columns in groupby(table.columns, key=lambda c: c.group)]


def rows_of(table: Table) -> Iterator[Row]:
    """A table's rows as text."""
    texts = [table.cells(column) for column in table.columns]
    numbers = [table.is_number(column) for column in table.columns]
    best = [table.best(column) for column in table.columns]
    for position in range(len(table.frame)):
        cells = [
            Cell(text[position], number, lowest == position)
            for text, number, lowest in zip(texts, numbers, best, strict=True)
        ]
        yield Row(cells, position in table.marked)
