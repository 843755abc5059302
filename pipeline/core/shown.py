"""What people are shown: text on a terminal, and the cells of CSV files that a spreadsheet may open."""

import re
from typing import Any

import typer
from rich.text import Text

from pipeline.core.credentials import masked
from pipeline.core.files import escaped

FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""What a spreadsheet takes for the beginning of a formula, in full width, too, and behind blanks."""
INNER = re.compile(rf";(?={FORMULA.pattern})")
"""Where one begins for a spreadsheet that takes semicolons for the ends of cells, as many countries' do."""
ESCAPED_INNER = re.compile(r"(?<!\\)((?:\\\\)*)\\x3b")
QUOTE = "'"


def cell(value: Any) -> Any:
    r"""A value as a cell of a CSV file: no text is a formula or moves a cursor, numbers stay as they are.

    Control characters and other invisible marks are escaped, and so is a semicolon before what may begin a
    formula. A text that a spreadsheet would compute gets a quote before it, and so does one that begins with
    a quote: without its first quote it is what it was.

    Examples
    --------
    >>> cell("=1+1.jpg"), cell("'a"), cell("-"), cell(-1.5), cell("a-b"), cell("a;=1")
    ("'=1+1.jpg", "''a", "'-", -1.5, 'a-b', 'a\\x3b=1')
    """
    if not isinstance(value, str):
        return value
    text = INNER.sub(r"\\x3b", escaped(value))
    return QUOTE + text if text.startswith(QUOTE) or FORMULA.match(text) else text


def uncelled(text: str) -> str:
    """The text that `cell` made a cell of, as `printable` gives it.

    Examples
    --------
    >>> uncelled(cell("=1;=2"))
    '=1;=2'
    """
    return ESCAPED_INNER.sub(r"\1;", text.removeprefix(QUOTE))


def lines(text: str) -> str:
    """A text of several lines, in each of which what cannot be seen or acts on a terminal is escaped."""
    return "\n".join(map(escaped, text.split("\n")))


def say(text: str, *, err: bool = False) -> None:
    """Print lines for a person; names and values in them are text and nothing else, passwords hidden."""
    typer.echo(lines(masked(text)), err=err)


def complain(sentence: object) -> None:
    """Print one sentence on standard error, and make one line of it whatever it repeats."""
    typer.echo(escaped(masked(f"vec2age: {sentence}")), err=True)


def plain(text: str) -> Text:
    """A text for rich's tables, which takes brackets in other texts for its markup."""
    return Text(lines(text))
