"""The files of a vector store, and fast reading of vectors from Parquet.

A segment is a Parquet table of keys and vectors, sorted by key, whose name is the sha256 of its own
bytes. Parquet's page checksums cover the data pages but neither their headers nor the footer; the
name covers every byte, so that no damage to a file goes unseen.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.core.errors import UserError, sentence_of
from pipeline.core.files import Unusable, open_regular
from pipeline.core.tables import (
    DAMAGED,
    ROW_GROUP_ROWS,
    first_line,
    parquet_file,
    permissions,
    sync_directory,
    with_producer,
)

KEY_BYTES = 32
FLOAT = np.dtype("<f4")
# As bytes of a fixed size and uncompressed, vectors take half the time to read that compressed lists
# take, with neither levels nor pages to decode, for a fifth more disk.
OPTIONS: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
SUFFIX = ".parquet"
# The one temporary name: writers take turns, so at most one file carries it. `tables.atomic_file` must know
# beforehand what a file will be called, which here is the hash of its bytes.
PENDING = "pending"
READERS = 2
# Vectors are decoded a quarter of a MiB at a time, which stays in the processor's cache: faster than a
# whole row group at once, and little memory beside the array that is filled.
BATCH_VALUES = 1 << 16
READ_BUFFER = 1 << 18

T = TypeVar("T")
R = TypeVar("R")
Stamp = tuple[int, int, int]
# NumPy drops trailing zeros of single byte strings, but compares, sorts and copies whole arrays exactly.
Keys = NDArray[np.bytes_]


class SegmentDamaged(Exception):
    """A file among the segments that is not what its name and its place say; the text says why."""


@dataclass(frozen=True)
class Segment:
    """One verified segment: where it is, what the file system said of it then, its footer, its keys."""

    path: Path
    stamp: Stamp
    metadata: pq.FileMetaData
    keys: Keys


def segment_schema(fingerprint: str, dim: int) -> pa.Schema:
    """The schema of every segment of one store; its metadata tells encoders apart."""
    fields = [
        pa.field("key", pa.binary(KEY_BYTES), nullable=False),
        pa.field("vector", pa.binary(dim * FLOAT.itemsize), nullable=False),
    ]
    settings = {"dim": dim, "dtype": FLOAT.str, "fingerprint": fingerprint}
    return with_producer(pa.schema(fields), "encoders.store", settings)


@contextlib.contextmanager
def locked(directory: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold a directory's lock, shared with other readers or alone as its writer; wait where it is taken."""
    lock = directory / "lock"
    try:
        if exclusive:
            directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT if exclusive else os.O_RDONLY, 0o666)
    except OSError as error:
        if exclusive or not isinstance(error, FileNotFoundError):
            raise UserError(f"{lock} cannot be opened: {first_line(error)}") from error
        handle = None  # a reader before the first writer: nothing to read, nobody to wait for
    try:
        if handle is not None:
            fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        if exclusive:
            (directory / PENDING).unlink(missing_ok=True)  # left by a writer that was killed
        yield
    finally:
        if handle is not None:
            os.close(handle)


def stamps(directory: Path) -> dict[str, Stamp]:
    """The segments a directory lists, by name, each with its modification time, size and inode."""
    try:
        with os.scandir(directory) as entries:
            found = {e.name: e.stat() for e in entries if e.name.endswith(SUFFIX) and e.is_file()}
    except FileNotFoundError:
        return {}
    return {name: (s.st_mtime_ns, s.st_size, s.st_ino) for name, s in sorted(found.items())}


def write_segment(directory: Path, schema: pa.Schema, keys: Keys, vectors: np.ndarray) -> Path:
    """Write keys in ascending order and their vectors as one segment, which appears whole or not at all.

    The caller holds the directory's lock. The same rows give the same bytes, hence the same name.
    """
    columns = [keys, np.ascontiguousarray(vectors, FLOAT)]
    arrays = [
        pa.FixedSizeBinaryArray.from_buffers(
            field.type, len(keys), [None, pa.py_buffer(column.view(np.uint8))]
        )
        for field, column in zip(schema, columns, strict=True)
    ]
    table = pa.Table.from_arrays(arrays, schema=schema)
    pending = directory / PENDING
    try:
        with open(pending, "wb", opener=lambda name, flags: os.open(name, flags, permissions(True))) as file:
            with pq.ParquetWriter(file, schema, **OPTIONS) as writer:
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            file.flush()
            os.fsync(file.fileno())
        path = directory / f"{digest(pending)}{SUFFIX}"
        pending.replace(path)
        sync_directory(directory)
    except OSError as error:
        raise UserError(f"{directory} cannot take more vectors: {sentence_of(error)}") from error
    finally:
        pending.unlink(missing_ok=True)
    return path


def join(keys: Sequence[Keys]) -> Keys:
    """Several arrays of keys as one, which may be empty."""
    return np.concatenate([np.empty(0, f"S{KEY_BYTES}"), *keys])


def digest(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with open_regular(os.path.realpath(path)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_segment(path: Path, stamp: Stamp, schema: pa.Schema) -> Segment:
    """Verify every byte of a segment and read its keys; raises `SegmentDamaged` with what is wrong."""
    try:
        if digest(path) != path.stem:
            raise SegmentDamaged("its bytes are not those it was written with")
        with parquet_file(path, pre_buffer=False) as file:
            found = file.schema_arrow
            if not found.equals(schema) or found.metadata != schema.metadata:
                raise SegmentDamaged("it is not a table of this encoder's vectors of this width")
            chunks = file.read(columns=["key"], use_threads=False).column(0).chunks
            keys = [
                np.frombuffer(c.buffers()[1], f"S{KEY_BYTES}", len(c), c.offset * KEY_BYTES) for c in chunks
            ]
            return Segment(path, stamp, file.metadata, join(keys))
    except (Unusable, *DAMAGED) as error:
        raise SegmentDamaged(first_line(error)) from error


def gather(segments: Sequence[Segment], rows: np.ndarray, out: np.ndarray) -> None:
    """Copy vectors out of segments, reading each row group at most once and only where it is needed.

    Parameters
    ----------
    segments
        The segments, their rows numbered through in this order.
    rows
        (N,) integers: the row of each vector wanted.
    out
        (N, dim) float32: filled in the order of `rows`.
    """
    groups = [(s, g) for s in segments for g in range(s.metadata.num_row_groups)]
    sizes = [s.metadata.row_group(g).num_rows for s, g in groups]
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    order = np.argsort(rows, kind="stable")
    bounds = np.searchsorted(rows[order], starts)

    def copy(index: int) -> None:
        segment, group = groups[index]
        places = order[bounds[index] : bounds[index + 1]]
        wanted = rows[places] - starts[index]
        for first, block in blocks(segment.path, segment.metadata, group, "vector", out.shape[1]):
            low, high = np.searchsorted(wanted, [first, first + len(block)])
            out[places[low:high]] = block[wanted[low:high] - first]

    in_threads(copy, np.flatnonzero(np.diff(bounds)).tolist())


def blocks(
    path: Path, metadata: pq.FileMetaData, group: int, column: str, width: int
) -> Iterator[tuple[int, np.ndarray]]:
    """The vectors of one row group in pieces: first row and (rows, D) float32; page checksums verified."""
    # Neither pre-buffered nor memory-mapped: both keep the file's bytes in memory beside the vectors.
    with parquet_file(path, metadata=metadata, pre_buffer=False, buffer_size=READ_BUFFER) as file:
        size = max(1, BATCH_VALUES // width)
        first = 0
        for batch in file.iter_batches(size, row_groups=[group], columns=[column], use_threads=False):
            vectors = batch.column(0)
            if vectors.null_count:
                raise pa.ArrowInvalid(f"a null among the vectors of row group {group}")
            _, data = vectors.buffers()
            start = vectors.offset * width * FLOAT.itemsize
            yield first, np.frombuffer(data, FLOAT, len(vectors) * width, start).reshape(-1, width)
            first += len(vectors)


def in_threads(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """`list(map(work, items))` on `READERS` threads: hashing, decoding and copying release the GIL."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(work, items))
