"""Tables of text as people have them: CSV, its header and rows, and what is a CSV by its name alone."""

import codecs
import csv
import difflib
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.files import listed, shorten
from pipeline.core.rejects import Rejects
from pipeline.datasets.formats.limited import parsing
from pipeline.datasets.manifest import Record, reject

# What a file is that begins so, and what to do with it.
OTHERS = {
    b"PK\x03\x04": "an Excel workbook or another zip archive: save its sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save its sheet as CSV UTF-8",
    b"PAR1": "a Parquet table: give it the ending .parquet",
    b"%PDF": "a PDF: export the table as CSV",
    b"<": "a web page or XML, not a table: save the table as CSV UTF-8",
    b"{": "JSON, not a table: save the table as CSV UTF-8",
    b"[": "JSON, not a table: save the table as CSV UTF-8",
    codecs.BOM_UTF16_LE: "UTF-16 text: save it as UTF-8 (Excel: CSV UTF-8)",
    codecs.BOM_UTF16_BE: "UTF-16 text: save it as UTF-8 (Excel: CSV UTF-8)",
}
GZIP = b"\x1f\x8b"
# Excel's own line that names the mark between fields.
MARK_LINE = "sep="
INDEX = "Unnamed: 0"


def lacking(path: Path, name: str, columns: Sequence[str], setting: str | None = None) -> UserError:
    """The sentence for a table without a column that is needed; `setting` is what chooses the column."""
    near = difflib.get_close_matches(name.casefold(), [column.strip().casefold() for column in columns], 1)
    close = next((column for column in columns if near and column.strip().casefold() == near[0]), None)
    choose = f"; set data.settings.{setting} to the one that is meant" if setting else ""
    perhaps = f", perhaps {shorten(close)}" if close is not None and setting else ""
    return UserError(f"{path} has no column {name!r}: it has {named_columns(columns)}{choose}{perhaps}")


def named_columns(columns: Sequence[str]) -> str:
    """Columns for a message; says so where another character than a comma seems to separate them."""
    other = next((mark for mark in ";\t|" if mark in columns[0]), None) if len(columns) == 1 else None
    if other is not None:
        return f"the one column {shorten(columns[0])}; separate fields by commas, not by {other!r}"
    return listed(columns)


def different(names: Sequence[str], path: Path) -> None:
    """Refuse columns of which two have one name: which of them is meant cannot be told."""
    seen: set[str] = set()
    for number, name in enumerate(names, 1):
        if not name.strip() or name in seen:
            raise UserError(f"{path}: column {number} is called {name!r}: give each column its own name")
        seen.add(name)


@contextmanager
def opened(path: Path) -> Iterator[Iterator[list[str]]]:
    """The rows of a CSV file, compressed or not, from its header on; what is no CSV is named."""
    parsing(path)
    with path.open("rb") as raw:
        start = raw.read(8)
        packed = start.startswith(GZIP)
        raw.seek(0)
        data: io.BufferedReader = gzip.open(raw) if packed else raw  # type: ignore[assignment]  # noqa: SIM115 - raw closes it
        reader = None
        try:
            if packed:
                start = data.read(8)
                data.seek(0)
            what = next((what for magic, what in OTHERS.items() if start.startswith(magic)), None)
            if what is not None:
                raise UserError(f"{path} is {what}")
            # Bytes that are not UTF-8 survive as surrogates, so that one bad name costs one row.
            text = io.TextIOWrapper(data, encoding="utf-8-sig", errors="surrogateescape", newline="")
            line, skipped, mark = text.readline(), 0, ","
            while line and not line.strip():
                line, skipped = text.readline(), skipped + 1
            if line.lower().startswith(MARK_LINE) and len(line.rstrip("\r\n")) == len(MARK_LINE) + 1:
                mark, line, skipped = line[len(MARK_LINE)], text.readline(), skipped + 1
            reader = csv.reader(_from(line, text), strict=True, delimiter=mark)
            yield _counted(reader, skipped)
        except csv.Error as error:
            number = reader.line_num if reader is not None else 1
            raise UserError(f"{path}, line {number}: {error}") from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(
                f"{path} is damaged, its compressed data ends early or is wrong: {error}"
            ) from None


def _from(line: str, text: io.TextIOWrapper) -> Iterator[str]:
    yield line
    yield from text


def _counted(reader: Any, skipped: int) -> Iterator[list[str]]:
    """Rows, of which the first field is the number of the line."""
    for fields in reader:
        yield [str(reader.line_num + skipped), *fields]


def csv_columns(path: Path) -> list[str]:
    """The header of a CSV table, without pandas' index; columns without a name of their own are refused."""
    with opened(path) as rows:
        names = next(rows, ["1"])[1:]
    if not names:
        raise UserError(f"{path} is empty: it must begin with a header such as path,target")
    if is_index(names):
        names = names[1:]
    different(names, path)
    return names


def is_index(names: Sequence[str]) -> bool:
    """Whether the first column is the index that pandas writes unasked."""
    return len(names) > 1 and names[0] in ("", INDEX)


def csv_rows(
    path: Path, columns: Sequence[str], rejects: Rejects
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The rows of a CSV table with their places; rows of another length are rejected."""
    with opened(path) as rows:
        width = len(next(rows)) - 1
        for line, *fields in rows:
            where = f"{path.name}, line {line}"
            if not fields:
                continue
            if len(fields) != width:
                problem = f"{len(fields)} fields where the header has {width}"
                reject(Record(None, None, where=where), rejects, "bad_row", problem)
            else:
                yield where, dict(zip(columns, fields[width - len(columns) :], strict=True))
