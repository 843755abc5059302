"""Tables of predictions as CSV, JSON lines or Parquet, written part by part and appearing whole."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipeline.core.artifacts import plain_json
from pipeline.core.errors import UserError, writing
from pipeline.core.shown import cell, uncelled
from pipeline.core.tables import atomic_file, parquet_options, producer_of, read_table, with_producer
from pipeline.serving.rows import SCHEMA

PRODUCER = "vec2age predict"
NAMED = ["file", "model"]
LONGEST = 240  # bytes: file systems take 255, of which parts and what is not finished yet need some
LONGEST_ROW = 2**20
"""Bytes: no name, reason and warnings of a row are that long, and nothing else is read further."""
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
    again, named = tuple(f"{name}/" for name in names), frozenset(names)
    why = None
    try:
        for file, other in READERS[path.suffix.lower()](path):  # no further than to the first that is foreign
            if file not in named and not str(file).startswith(again):
                why = f"holds predictions of {file}"
            elif other != model:
                why = "holds predictions of another model"
            if why:
                break
    except (UserError, pa.ArrowException, ValueError, KeyError, TypeError):
        why = "is a file that predict did not write"
    if why is None:
        return
    raise UserError(f"output {path} exists and {why}: name another file, or replace it with --force")


def read_csv(path: Path) -> Iterator[tuple[str, str]]:
    """The file and the model in each row of a table that `write_csv` wrote."""
    header = ",".join(f'"{name}"' for name in SCHEMA.names).encode() + b"\n"
    with path.open("rb") as file:
        if file.read(len(header)) != header:
            raise ValueError("another header")
        file.seek(0)  # Arrow would take the path for UTF-8
        named = pa_csv.ConvertOptions(include_columns=NAMED, column_types=dict.fromkeys(NAMED, pa.string()))
        with pa_csv.open_csv(file, pa_csv.ReadOptions(block_size=LONGEST_ROW), convert_options=named) as rows:
            for batch in rows:
                yield from zip(
                    map(uncelled, batch["file"].to_pylist()), batch["model"].to_pylist(), strict=True
                )


def read_jsonl(path: Path) -> Iterator[tuple[str, str]]:
    """The same of a table that `write_jsonl` wrote."""
    with path.open("rb") as file:
        while line := file.readline(LONGEST_ROW):
            row = plain_json(line)
            if not isinstance(row, dict) or list(row) != SCHEMA.names:
                raise ValueError("other columns")
            yield row["file"], row["model"]


def read_parquet(path: Path) -> Iterator[tuple[str, str]]:
    """The same of a table that `write_parquet` wrote."""
    if producer_of(path)["producer"] != PRODUCER:
        raise ValueError("another producer")
    for batch in read_table(path, NAMED).to_batches():
        yield from zip(*(batch[name].to_pylist() for name in NAMED), strict=True)


READERS: dict[str, Callable[[Path], Iterator[tuple[str, str]]]] = {
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
