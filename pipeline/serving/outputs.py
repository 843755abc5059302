"""Tables of predictions as CSV, JSON lines or Parquet, written part by part and appearing whole."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipeline.errors import UserError, writing
from pipeline.tables import atomic_file, parquet_options, with_producer

PRODUCER = "vec2age predict"
LONGEST = 240  # bytes: file systems take 255, of which parts and what is not finished yet need some
Writer = Callable[[IO[bytes], pa.Schema, Iterable[pa.Table]], None]


def write_csv(file: IO[bytes], schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """One header line; text in quotes, nothing where there is no value."""
    options = pa_csv.WriteOptions(include_header=True)
    with pa_csv.CSVWriter(file, schema, write_options=options) as writer:
        for table in tables:
            writer.write_table(table)


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
        It ends in something else, is too long, names a folder, or lies in one that does not exist.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"output {path} must end in one of {', '.join(FORMATS)}")
    if (length := len(os.fsencode(path.name))) > LONGEST:
        raise UserError(f"output {path} has a name of {length} bytes: {LONGEST} are the most")
    if path.is_dir():
        raise UserError(f"output {path} is a folder: name a file")
    if not path.parent.exists():
        raise UserError(f"output {path} lies in a folder that does not exist: make {path.parent} first")
    return FORMATS[path.suffix.lower()]


def write(path: Path, schema: pa.Schema, tables: Iterable[pa.Table], model: str) -> None:
    """Write tables of one schema into one file, atomically."""
    writer = check_name(path)
    described = with_producer(schema, PRODUCER, {"model": model})
    with writing(path), atomic_file(path) as file:
        writer(file, described, (table.cast(described) for table in tables))
