"""Faces listed in a table: CSV or Parquet, with a path, a target and any groups."""

import codecs
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.datasets.manifest import Record, build_manifest, check_groups, reject
from pipeline.datasets.sources import source_file
from pipeline.errors import UserError
from pipeline.opening import is_unicode, printable
from pipeline.rejects import Rejects
from pipeline.tables import open_table, read_table


def read_csv(
    root: Path,
    *,
    rejects: Rejects,
    table: str = "labels.csv",
    path_column: str = "path",
    target_column: str = "target",
    subject_column: str | None = None,
    groups: Sequence[str] | None = None,
    workers: int | None = None,
) -> pa.Table:
    """Read faces listed in a CSV or Parquet table.

    Parameters
    ----------
    root
        The folder that paths in the table are relative to.
    rejects
        Receives what is left out; a CSV row with too few or too many fields, or with a subject or group that
        is not UTF-8, is a `bad_row`.
    table
        The table, relative to the root: Parquet where its name ends in .parquet, else CSV with a header, in
        UTF-8.
    path_column, target_column
        The columns of paths and targets.
    subject_column
        The column of subjects; by default `subject`, if there is one.
    groups
        The group columns; by default all others.
    workers
        Threads that hash files.

    Returns
    -------
    pyarrow.Table
        The manifest.

    Raises
    ------
    UserError
        The table is missing, damaged, empty, or has not got the columns.
    """
    path = source_file(root, table)
    base = path.parent if root.is_file() else root
    columns = parquet_columns(path) if is_parquet(path) else csv_columns(path)
    for name in (path_column, target_column, *([subject_column] if subject_column else ()), *(groups or ())):
        if name not in columns:
            raise UserError(f"{path} has no column {name!r}: it has {named_columns(columns)}")
    if subject_column is None and "subject" in columns:
        subject_column = "subject"
    used = {path_column, target_column, subject_column}
    kept = [name for name in columns if name not in used] if groups is None else list(groups)
    check_groups(kept)
    records, left_out = [], len(rejects.rows)
    texts = [*kept, *([subject_column] if subject_column else ())]
    for where, row in parquet_rows(path) if is_parquet(path) else csv_rows(path, columns, rejects):
        named = row[path_column]
        foreign = [name for name in texts if isinstance(value := row[name], str) and not is_unicode(value)]
        if foreign and is_unicode(str(named)):
            problem = f"{foreign[0]} is not UTF-8 text: save the table in UTF-8"
            reject(Record(None, None, where=where), rejects, "bad_row", problem)
            continue
        records.append(
            Record(
                "" if named is None else str(named),
                row[target_column],
                row[subject_column] if subject_column else None,
                {name: row[name] for name in kept},
                where,
            )
        )
    if not records and len(rejects.rows) == left_out:
        raise UserError(f"{path} lists no face")
    return build_manifest(records, base, "csv", rejects, workers)


def named_columns(columns: Sequence[str]) -> str:
    """Columns for a message; says so where another character than a comma seems to separate them."""
    other = next((mark for mark in ";\t|" if mark in columns[0]), None) if len(columns) == 1 else None
    if other is not None:
        return f"the one column {columns[0]!r}; separate fields by commas, not by {other!r}"
    return ", ".join(repr(name) if name != name.strip() else printable(name) for name in columns)


def is_parquet(path: Path) -> bool:
    """Whether a table is Parquet, by its name."""
    return path.suffix.lower() in (".parquet", ".pq")


def parquet_columns(path: Path) -> list[str]:
    """The column names of a Parquet table."""
    return list(open_table(path).schema_arrow.names)


def parquet_rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The rows of a Parquet table with their places."""
    number = 0
    for batch in read_table(path).to_batches(max_chunksize=8192):
        for row in batch.to_pylist():
            number += 1
            yield f"{path.name}, row {number}", row


def csv_columns(path: Path) -> list[str]:
    """The header of a CSV table; a column without a name or with another's is refused."""
    with path.open("rb") as raw:
        if raw.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise UserError(f"{path} is UTF-16 text: save it as UTF-8 (Excel: CSV UTF-8)")
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        try:
            names = next(csv.reader(file, strict=True), [])
        except csv.Error as error:
            raise UserError(f"{path}, line 1: {error}") from None
    for index, name in enumerate(names):
        if not name.strip() or name in names[:index]:
            raise UserError(f"{path}: column {index + 1} is called {name!r}: give each column its own name")
    if not names:
        raise UserError(f"{path} is empty: it must begin with a header such as path,target")
    return names


def csv_rows(
    path: Path, columns: Sequence[str], rejects: Rejects
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The rows of a CSV table with their places; rows of another length are rejected."""
    # Bytes that are not UTF-8 survive as surrogates, so that one bad name costs one row and not the table.
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            next(reader)
            for fields in reader:
                where = f"{path.name}, line {reader.line_num}"
                if not fields:
                    continue
                if len(fields) != len(columns):
                    problem = f"{len(fields)} fields where the header has {len(columns)}"
                    reject(Record(None, None, where=where), rejects, "bad_row", problem)
                else:
                    yield where, dict(zip(columns, fields, strict=True))
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num}: {error}") from None
