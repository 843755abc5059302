"""Faces listed in a table: CSV or Parquet, with a path, a target and any groups."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.files import is_unicode
from pipeline.core.rejects import Rejects
from pipeline.core.tables import open_table, read_table
from pipeline.datasets.formats.arrow_columns import plain_columns
from pipeline.datasets.formats.csv_tables import csv_columns, csv_rows, different, lacking
from pipeline.datasets.listing import source_file
from pipeline.datasets.manifest import Record, build_manifest, check_groups, reject


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
        UTF-8, as it is or compressed by gzip.
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
    known = set(columns)
    wanted = {"path_column": path_column, "target_column": target_column, "subject_column": subject_column}
    for setting, name in [*wanted.items(), *(("groups", group) for group in groups or ())]:
        if name is not None and name not in known:
            raise lacking(path, name, columns, setting)
    if subject_column is None and "subject" in columns:
        subject_column = "subject"
    used = {path_column, target_column, subject_column}
    kept = [name for name in columns if name not in used] if groups is None else list(groups)
    check_groups(kept)
    records, left_out = [], len(rejects.rows)
    texts = [*kept, *([subject_column] if subject_column else ())]
    plain = [path_column, *texts, target_column]
    parquet = is_parquet(path)
    for where, row in (
        parquet_rows(path, plain, target_column) if parquet else csv_rows(path, columns, rejects)
    ):
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


def is_parquet(path: Path) -> bool:
    """Whether a table is Parquet, by its name."""
    return path.suffix.lower() in (".parquet", ".pq")


def parquet_columns(path: Path) -> list[str]:
    """The column names of a Parquet table."""
    names = list(open_table(path).schema_arrow.names)
    different(names, path)
    return names


def parquet_rows(path: Path, names: Sequence[str], target: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The rows of a Parquet table with their places."""
    number = 0
    table = read_table(path, list(dict.fromkeys(names)))
    for batch in plain_columns(table, path, names, [target]).to_batches(max_chunksize=8192):
        for row in batch.to_pylist():
            number += 1
            yield f"{path.name}, row {number}", row
