"""Tables of predictions as CSV, JSON lines or Parquet, written part by part and appearing whole."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipeline.errors import UserError, writing
from pipeline.serving.rows import SCHEMA
from pipeline.showing import cell, uncelled
from pipeline.tables import atomic_file, parquet_options, producer_of, read_table, with_producer

PRODUCER = "vec2age predict"
NAMED = ["file", "model"]
LONGEST = 240  # bytes: file systems take 255, of which parts and what is not finished yet need some
Writer = Callable[[IO[bytes], pa.Schema, Iterable[pa.Table]], None]


def write_csv(file: IO[bytes], schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """One header line; text in quotes, none of it a formula; nothing where there is no value."""
    options = pa_csv.WriteOptions(include_header=True)
    with pa_csv.CSVWriter(file, schema, write_options=options) as writer:
        for table in tables:
            writer.write_table(as_cells(table))


def as_cells(table: pa.Table) -> pa.Table:
    """A table whose texts are cells of a CSV file."""
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            texts = pa.array(map(cell, table[field.name].to_pylist()), pa.string())
            table = table.set_column(place, field, texts)
    return table


def write_jsonl(file: IO[bytes], schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """One object a line, null where there is no value."""
    for table in tables:
        for row in table.to_pylist():
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def write_parquet(file: IO[bytes], schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """As all tables of the project."""
    with pq.ParquetWriter(file, schema, **parquet_options(schema)) as writer:
        for table in tables:
            writer.write_table(table)


FORMATS: dict[str, Writer] = {".csv": write_csv, ".jsonl": write_jsonl, ".parquet": write_parquet}


def check_name(path: Path) -> Writer:
    """The writer that a file's name asks for.

    Raises
    ------
    UserError
        It ends in something else, is too long, is no file, or lies in a folder that does not exist.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"output {path} must end in one of {', '.join(FORMATS)}")
    if (length := len(os.fsencode(path.name))) > LONGEST:
        raise UserError(f"output {path} has a name of {length} bytes: {LONGEST} are the most")
    if path.is_dir():
        raise UserError(f"output {path} is a folder: name a file")
    if path.exists() and not path.is_file():
        raise UserError(f"output {path} is a pipe or a device, which a table would replace: name a file")
    if not path.parent.exists():
        raise UserError(f"output {path} lies in a folder that does not exist: make {path.parent} first")
    return FORMATS[path.suffix.lower()]


def check_replaceable(path: Path, model: str, names: Sequence[str] | None) -> None:
    """Refuse to replace a file, unless it is empty or a table that the same question gave before.

    That is a table of `vec2age predict` in the same format, by the same model, of files that are all named
    again or lie in folders named again: whatever it holds will be in the new one, too.

    Parameters
    ----------
    path
        The output.
    model
        The model's id.
    names
        What is named now, as the table spells it; None is to replace whatever is there.

    Raises
    ------
    UserError
        It is something else.
    """
    if names is None or not path.exists() or path.stat().st_size == 0:
        return
    try:
        found = READERS[path.suffix.lower()](path)
        models, files = set(found["model"].to_pylist()), found["file"].to_pylist()
    except (UserError, pa.ArrowException, ValueError, KeyError, TypeError):
        why = "is a file that predict did not write"
    else:
        again = tuple(f"{name}/" for name in names)
        others = (file for file in files if file not in names and not str(file).startswith(again))
        other = next(others, None)
        if models <= {model} and other is None:
            return
        why = "holds predictions of another model" if other is None else f"holds predictions of {other}"
    raise UserError(f"output {path} exists and {why}: name another file, or replace it with --force")


def read_csv(path: Path) -> pa.Table:
    """The columns `file` and `model` of a table that `write_csv` wrote."""
    with path.open("rb") as file:
        if file.readline() != ",".join(f'"{name}"' for name in SCHEMA.names).encode() + b"\n":
            raise ValueError("another header")
        file.seek(0)  # Arrow would take the path for UTF-8
        named = pa_csv.ConvertOptions(include_columns=NAMED, column_types=dict.fromkeys(NAMED, pa.string()))
        found = pa_csv.read_csv(file, convert_options=named)
    return found.set_column(0, "file", pa.array(map(uncelled, found["file"].to_pylist()), pa.string()))


def read_jsonl(path: Path) -> pa.Table:
    """The same of a table that `write_jsonl` wrote."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    if any(list(row) != SCHEMA.names for row in rows):
        raise ValueError("other columns")
    return pa.Table.from_pylist([{name: row[name] for name in NAMED} for row in rows])


def read_parquet(path: Path) -> pa.Table:
    """The same of a table that `write_parquet` wrote."""
    if producer_of(path)["producer"] != PRODUCER:
        raise ValueError("another producer")
    return read_table(path, NAMED)


READERS: dict[str, Callable[[Path], pa.Table]] = {
    ".csv": read_csv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}


def write(path: Path, schema: pa.Schema, tables: Iterable[pa.Table], model: str) -> None:
    """Write tables of one schema into one file, atomically."""
    writer = check_name(path)
    described = with_producer(schema, PRODUCER, {"model": model})
    with writing(path), atomic_file(path) as file:
        writer(file, described, (table.cast(described) for table in tables))
