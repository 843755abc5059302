"""The first sheet of an Excel workbook from a stranger: cells as numbers and text, within bounds.

A workbook is a zip archive of XML files. Nothing is executed, no formula computed, nothing fetched.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from pipeline.core.errors import UserError

SHEET = "xl/worksheets/sheet1.xml"
STRINGS = "xl/sharedStrings.xml"
MOST = 64 << 20
COLUMN = re.compile(r"[A-Z]{1,3}", re.ASCII)
Cell = float | str


def rows(path: Path) -> Iterator[tuple[int, dict[str, Cell]]]:
    """The number of each row that has cells, and its cells by their columns' letters.

    Raises
    ------
    UserError
        The file is no workbook, damaged, encrypted, or a sheet of more than 64 MiB.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if SHEET not in names:
                raise UserError(f"{path} has no sheet: it is not an Excel workbook (.xlsx)")
            strings = part(archive, STRINGS, path) if STRINGS in names else None
            sheet = part(archive, SHEET, path)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, OSError) as error:
        raise UserError(f"{path} is not a readable Excel workbook: {error}") from None
    try:
        yield from parsed(sheet, [] if strings is None else shared(strings))
    except (ElementTree.ParseError, ValueError, IndexError) as error:
        raise UserError(f"{path} is damaged: {error}") from None


def part(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """One file of the archive; what it inflates to is bounded, and it may declare no entities."""
    with archive.open(name) as file:
        data = file.read(MOST + 1)
    if len(data) > MOST:
        raise UserError(f"{path}: {name} has more than {MOST // 2**20} MiB")
    if b"<!DOCTYPE" in data.replace(b"\0", b""):  # in UTF-16 too
        raise UserError(f"{path}: {name} declares a document type, which no workbook does")
    return data


def shared(data: bytes) -> list[str]:
    """The texts that cells refer to by number."""
    return ["".join(item.itertext()) for item in ElementTree.fromstring(data) if local(item) == "si"]


def parsed(data: bytes, strings: list[str]) -> Iterator[tuple[int, dict[str, Cell]]]:
    """The rows of a sheet's XML."""
    for _, element in ElementTree.iterparse(io.BytesIO(data)):
        if local(element) != "row":
            continue
        cells = {}
        for cell in element:
            column = COLUMN.match(cell.get("r", ""))
            text = "".join("".join(value.itertext()) for value in cell if local(value) in ("v", "is"))
            if column and text:
                cells[column[0]] = content(text, cell.get("t", "n"), strings)
        if cells:
            yield int(element.get("r", "0")), cells
        element.clear()


def content(text: str, kind: str, strings: list[str]) -> Cell:
    """A cell's number or text."""
    if kind == "s":
        return strings[int(text)]
    return float(text) if kind == "n" else text


def local(element: ElementTree.Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]
