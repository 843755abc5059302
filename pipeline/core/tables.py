"""Parquet tables, written so that a reader sees all of a file or none of it.

Every table the project writes goes through here: zstd, atomic (temporary file, fsync, rename), page
checksums, and the producer with its settings in the schema's metadata. The same rows give the same
bytes: nothing of the time, the machine or the number of workers is recorded.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import io
import json
import os
import pickle
import re
import secrets
import shutil
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.credentials import masked
from pipeline.core.errors import UserError, writing
from pipeline.core.files import listed, opened

ROW_GROUP_ROWS = 8192
PRODUCER_KEY = b"vec2age"
TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.tmp", re.DOTALL)
PERSONAL = frozenset({"vector", "image", "picture"})
"""Columns that hold a face or its vector: a file with one of them is its owner's alone."""
SUBJECT = "subject"
"""The column that says whom a face shows, null where unknown, absent where all are. It is no group column."""
# What torch's reader is known to raise on files that are damaged or of another kind.
UNREADABLE = (
    *(pickle.UnpicklingError, BadZipFile, struct.error, OSError, EOFError, RuntimeError, ValueError),
    *(TypeError, AttributeError, LookupError, AssertionError),
)
DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What Arrow raises over a Parquet file that is damaged."""
WRITTEN_BY = "run the stage that writes it (dvc repro)"

_seen: dict[tuple[int, int], dict[str, list[str]]] = {}


class _Output(io.FileIO):
    """A file that every byte reaches through `write`, which remembers why the machine refused one.

    Libraries wrap such an error in one of their own, without number or name; given a descriptor, they would
    write past `write`.
    """

    refused: OSError | None = None

    def write(self, data: Any, /) -> int:
        """See `io.FileIO`."""
        try:
            return super().write(data)
        except OSError as error:
            self.refused = error
            raise

    def fileno(self) -> int:
        """There is none to hand out."""
        raise io.UnsupportedOperation("fileno")


def shared() -> bool:
    """Whether faces and their vectors may be read by whoever may read other results: `VEC2AGE_SHARED=1`."""
    return os.environ.get("VEC2AGE_SHARED") == "1"


def permissions(private: bool) -> int:
    """What a new file is asked for: the umask takes away from it; biometric data are their owner's alone."""
    return 0o600 if private and not shared() else 0o666


@contextlib.contextmanager
def atomic_file(
    path: Path, *, private: bool = False, folder: int | None = None, durable: bool = True
) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its name only when the block ends well.

    What a process that was killed left of the same file is removed. Where the machine refuses to write, the
    error names `path`, whatever the library that was writing makes of it. Its permissions are those that the
    umask leaves, and none that a file which it replaces had not; its owner may always read and write.

    Parameters
    ----------
    path
        The file to write; folders that are missing are made.
    private
        It holds biometric data: only its owner may read it, unless `VEC2AGE_SHARED=1` says otherwise.
    folder
        An open folder that a bare name is in.
    durable
        Let it survive a power cut, which takes as long as the disk takes.
    """
    if folder is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path, folder)
    with writing(path):
        handle, temporary = _temporary(path, permissions(private), folder)
    raw = _Output(handle, "wb")
    try:
        with io.BufferedWriter(raw) as file:
            _narrow(handle, path, folder)
            yield file
            file.flush()
            if durable:
                os.fsync(handle)
            os.replace(temporary, path, src_dir_fd=folder, dst_dir_fd=folder)  # while it is locked
        if durable:
            sync_directory(path.parent) if folder is None else os.fsync(folder)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        if raw.refused is None or not isinstance(error, Exception):
            raise
        with writing(path):
            raise raw.refused from (None if error is raw.refused else error)


def _temporary(path: Path, mode: int, folder: int | None) -> tuple[int, Path]:
    """A new file beside `path`, locked for as long as it is open: by that others see that it is in use."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        handle = os.open(temporary, flags, mode, dir_fd=folder)
        with contextlib.suppress(OSError):  # a file system without locks, where nobody removes anything
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, temporary
        os.close(handle)  # taken for a leftover before it was locked


def temporary_for(name: str) -> str | None:
    """Which file a temporary one of `atomic_file` was to become; None where it is none.

    Examples
    --------
    >>> temporary_for(".faces.parquet.0123abcd.tmp"), temporary_for("faces.parquet")
    ('faces.parquet', None)
    """
    found = TEMPORARY.fullmatch(name)
    return found and found[1]


def remove_leftovers(path: Path, folder: int | None = None) -> None:
    """Remove what killed processes left of a file; what is being written stays."""
    for name in _leftovers(path.parent if folder is None else folder).pop(path.name, []):
        remove_leftover(path.with_name(name), folder)


def remove_leftover(temporary: Path, folder: int | None = None) -> None:
    """Remove one temporary file of `atomic_file`, unless it is being written."""
    with contextlib.suppress(OSError):
        handle = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(temporary, dir_fd=folder)
        finally:
            os.close(handle)


def _leftovers(folder: Path | int) -> dict[str, list[str]]:
    """Temporary files by what they were to become; a folder, which may be large, is looked through once."""
    status = os.stat(folder)  # noqa: PTH116 - of an open folder, too
    identity = status.st_dev, status.st_ino
    if identity not in _seen:
        found = _seen[identity] = {}
        with os.scandir(folder) as entries:
            for entry in entries:
                name = temporary_for(entry.name)
                if name is not None and entry.is_file(follow_symlinks=False):
                    found.setdefault(name, []).append(entry.name)
    return _seen[identity]


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` that takes its place, and its name, when the block ends well.

    Whatever ends the block otherwise leaves the former folder as it was. Where a system cannot exchange two
    names at once, there is a moment without either, and what a kill then leaves is found again by the next
    call. Its permissions are as those of a file of `atomic_file`.

    Raises
    ------
    UserError
        A link has one of the two names that it takes meanwhile.
    """
    unfinished, earlier = (path.with_name(f".{path.name}.{word}") for word in ("unfinished", "earlier"))
    for place in (unfinished, earlier):
        if place.is_symlink():
            raise UserError(f"{place} is a link, where {path} is put together: move it away")
    if earlier.exists() and not path.exists():
        earlier.rename(path)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    if path.is_dir():
        unfinished.chmod(stat.S_IMODE(unfinished.stat().st_mode & (path.stat().st_mode | 0o700)))
    try:
        yield unfinished
        if not (path.is_dir() and _exchanged(unfinished, path)):
            shutil.rmtree(earlier, ignore_errors=True)
            if path.exists():
                path.rename(earlier)
            unfinished.rename(path)
        sync_directory(path.parent)
    except OSError as error:  # name what the user knows
        if isinstance(error.filename, str):
            error.filename = error.filename.replace(str(unfinished), str(path), 1)
        raise
    finally:
        if earlier.exists() and not path.exists():
            earlier.rename(path)
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(earlier, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two folders have each other's name, at once; False where the system or file system cannot."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)  # Linux; Python has no name for it
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return call is not None and call(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _narrow(handle: int, path: Path, folder: int | None) -> None:
    """Take from a new file what the file that it is to replace does not allow."""
    try:
        earlier = os.stat(path, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    mode = stat.S_IMODE(os.fstat(handle).st_mode)
    narrowed = mode & (earlier.st_mode | 0o600)
    if stat.S_ISREG(earlier.st_mode) and narrowed != mode:
        os.fchmod(handle, narrowed)


def sync_directory(path: Path) -> None:
    """Make a rename in `path` survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def vector_type(width: int) -> pa.DataType:
    """The column type of vectors: fixed_size_list<float32 not null>[width]."""
    return pa.list_(pa.field("item", pa.float32(), nullable=False), width)


def vectors_of(table: pa.Table, name: str = "vector", path: Path | None = None) -> npt.NDArray[np.float32]:
    """A column of vectors of a table in memory, which `path` was read into, as an array (N, D).

    Raises
    ------
    UserError
        The column is not of vectors of one width, or a row has none.
    """
    column, whose = table[name], f"{path}, " if path else ""
    if not pa.types.is_fixed_size_list(column.type) or not pa.types.is_floating(column.type.value_type):
        raise UserError(f"{whose}column {name!r} is {column.type}: vectors of one width are needed")
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise UserError(f"{whose}row {row} of column {name!r} is empty: every face needs a vector")
    width = column.type.list_size
    parts = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate([np.empty(0, np.float32), *parts]).astype(np.float32, copy=False).reshape(-1, width)


def with_producer(schema: pa.Schema, producer: str, settings: Mapping[str, Any]) -> pa.Schema:
    """The schema with who wrote the table, under which settings, in its metadata."""
    text = json.dumps({"producer": producer, "settings": settings}, sort_keys=True)
    return schema.with_metadata({**(schema.metadata or {}), PRODUCER_KEY: text.encode()})


def producer_of(path: Path) -> dict[str, Any]:
    """Who wrote a table, under which settings: `{"producer": ..., "settings": ...}`."""
    metadata = open_table(path).schema_arrow.metadata or {}
    if PRODUCER_KEY not in metadata:
        raise UserError(f"{path} was not written by vec2age: its schema names no producer")
    try:
        described: dict[str, Any] = json.loads(metadata[PRODUCER_KEY])
        if not (isinstance(described["producer"], str) and isinstance(described["settings"], dict)):
            raise ValueError("it names no producer and settings")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{path} does not say who wrote it ({first_line(error)[:200]}): run the stage that writes it "
            "again (dvc repro)"
        ) from None
    return described


def parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """How columns are stored: floats split by byte (smaller, and faster to read), text as dictionaries."""
    floats = [
        f"{field.name}.list.element" if pa.types.is_fixed_size_list(field.type) else field.name
        for field in schema
        if pa.types.is_floating(field.type)
        or (pa.types.is_fixed_size_list(field.type) and pa.types.is_floating(field.type.value_type))
    ]
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    return {
        "compression": "zstd",
        "use_dictionary": texts or False,
        "use_byte_stream_split": floats or False,
        "write_page_checksum": True,
    }


def write_batches(
    batches: Iterable[pa.Table],
    path: Path,
    schema: pa.Schema,
    producer: str,
    settings: Mapping[str, Any],
) -> int:
    """Stream tables of one schema into one Parquet file, a row group each; returns the rows written."""
    schema = with_producer(schema, producer, settings)
    rows = 0
    with (
        atomic_file(path, private=not PERSONAL.isdisjoint(schema.names)) as file,
        pq.ParquetWriter(file, schema, **parquet_options(schema)) as writer,
    ):
        for batch in batches:
            writer.write_table(batch.cast(schema), row_group_size=ROW_GROUP_ROWS)
            rows += batch.num_rows
    return rows


def write_table(
    table: pa.Table, path: Path, producer: str, settings: Mapping[str, Any] | None = None
) -> None:
    """Write one table atomically, with its producer and settings in the metadata."""
    write_batches([table], path, table.schema, producer, settings or {})


def parquet_file(path: Path, **options: Any) -> pq.ParquetFile:
    """Open a Parquet file for reading, its page checksums verified; Arrow's errors are left as they are.

    Arrow would encode a text as UTF-8, which is not what a folder is called where the locale is another one.
    """
    return pq.ParquetFile(pa.OSFile(os.fsencode(path)), page_checksum_verification=True, **options)


def open_table(path: Path) -> pq.ParquetFile:
    """Open a Parquet file for reading, its page checksums verified; a damaged one is a `UserError`."""
    with opened(path, WRITTEN_BY):
        try:
            return parquet_file(path)
        except DAMAGED as error:
            raise UserError(f"{path} is not a readable Parquet file: {first_line(error)}") from error


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a whole table, or some of its columns, with page checksums verified."""
    file = open_table(path)
    if columns is not None:
        there = dict.fromkeys(file.schema_arrow.names)  # the schema is made anew whenever it is asked for
        missing = [name for name in columns if name not in there]
        if missing:
            raise UserError(f"{path} has no column {missing[0]!r}: it has {listed(list(there))}")
    try:
        return file.read(columns=None if columns is None else list(columns))
    except DAMAGED as error:
        raise UserError(f"{path} {why_unread(error)}") from error


def read_as(path: Path, schema: pa.Schema, extra: Sequence[str] = ()) -> pa.Table:
    """The schema's columns of a table, in its types, and some more as they are.

    Raises
    ------
    UserError
        A column is missing, holds what its type cannot, or is empty in a row where it may not be.
    """
    table = read_table(path, list(dict.fromkeys([*schema.names, *extra])))
    for position, field in enumerate(schema):
        try:
            table = table.set_column(position, field.name, table[field.name].cast(field.type))
        except pa.ArrowException as error:
            raise UserError(f"{path}, column {field.name!r}: {first_line(error)}") from None
        if not field.nullable and table[field.name].null_count:
            row = pc.index(pc.is_null(table[field.name]), True).as_py()
            raise UserError(f"{path}, column {field.name!r}, row {row} is empty: every row needs a value")
    return table


def sha256(path: Path) -> str:
    """A file's hash, in hexadecimal digits."""
    with opened(path, WRITTEN_BY) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def why_unread(error: BaseException) -> str:
    """What is wrong with a table that Arrow could not read, for use after its name."""
    if isinstance(error, MemoryError):
        return "takes more memory to read than there is: split it, or save it with fewer columns"
    return f"is damaged: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """An exception's first line, for use inside a sentence."""
    return masked((str(error).strip().splitlines() or [type(error).__name__])[0].rstrip("."))


def read_folder(path: Path, columns: Sequence[str] | None = None) -> pa.Table | None:
    """A folder's Parquet files as one table, in the order of their names; None where there is none."""
    parts = [read_table(part, columns) for part in sorted(path.glob("*.parquet"))]
    return pa.concat_tables(parts).replace_schema_metadata() if parts else None


def rows_of(table: pa.Table, keys: pa.ChunkedArray, key: str = "face_id") -> pa.Table:
    """The rows of a table whose `key` column has these values, in their order.

    Unlike a join it keeps columns of lists and never changes the order.

    Raises
    ------
    UserError
        When a value is not in the table.

    Examples
    --------
    >>> ages = pa.table({"face_id": ["a", "b"], "target": [3.0, 7.0]})
    >>> rows_of(ages, pa.chunked_array([["b", "a"]]))["target"].to_pylist()
    [7.0, 3.0]
    """
    index = pc.index_in(keys, value_set=table[key].combine_chunks())
    if index.null_count:
        absent = keys.filter(pc.is_null(index))[0].as_py()
        raise UserError(f"{index.null_count} values of {key!r} are missing from a table, first {absent!r}")
    return table.take(index)


def only(table: pa.Table, keys: pa.ChunkedArray, key: str = "face_id") -> pa.Table:
    """The rows of a table whose `key` column has one of these values, in the table's order."""
    return table.filter(pc.is_in(table[key], value_set=keys.combine_chunks()))
