"""Sets of ready-made vectors: they skip the picture stages and go straight to the split."""

import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import UserError
from pipeline.core.files import printable
from pipeline.core.rejects import Rejects
from pipeline.core.tables import open_table, parquet_file, read_table
from pipeline.datasets.formats.arrow_columns import plain_columns
from pipeline.datasets.formats.csv_tables import different, lacking
from pipeline.datasets.listing import source_files
from pipeline.datasets.manifest import (
    Face,
    Record,
    check_groups,
    number,
    reject,
    reject_target,
    settle,
    to_table,
)

# After a Parquet footer come its length in four bytes, and four letters.
FOOTER_END = 8
Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VectorRecord:
    """What a source says about one vector: its record, its numbers and, where it has one, its own key."""

    record: Record
    values: object
    face_id: str | None = None


def build_vector_manifest(
    records: Iterable[VectorRecord], dataset: str, rejects: Rejects, width: int | None = None
) -> pa.Table:
    """Check vectors and keep each face once.

    Parameters
    ----------
    records
        One for each vector of the source.
    dataset
        What the column `dataset` says.
    rejects
        Receives every record left out: `bad_vector` (not a flat list of finite numbers), `wrong_width`,
        `bad_target`, `missing_target`, `duplicate`, `conflicting_targets`, `conflicting_vectors`.
    width
        How long vectors must be; by default as long as most of them are.

    Returns
    -------
    pyarrow.Table
        The manifest with the column `vector`, fixed_size_list<float32>[width]. Where the source gives no
        key, face_id is the sha256 of the vector's little-endian float32 bytes.
    """
    good: list[tuple[VectorRecord, float, Vector]] = []
    for item in records:
        target = number(item.record.target)
        vector = as_vector(item.values)
        if target is None:
            reject_target(item.record, rejects)
        elif isinstance(vector, str):
            reject(item.record, rejects, "bad_vector", vector, item.face_id)
        else:
            # What is kept must not hold on to the source's own numbers, which are ten times larger.
            good.append((VectorRecord(item.record, None, item.face_id), target, vector))
    lengths = Counter(len(vector) for _, _, vector in good)
    expected = width or max(lengths, key=lambda length: (lengths[length], length), default=0)
    faces = []
    for item, target, vector in good:
        if len(vector) != expected:
            problem = f"the vector has {len(vector)} numbers, not {expected}"
            reject(item.record, rejects, "wrong_width", problem, item.face_id)
        else:
            face_id = item.face_id or hashlib.sha256(vector.astype("<f4").tobytes()).hexdigest()
            faces.append(Face(face_id, target, item.record, vector))
    if not faces:
        raise UserError(f"the {dataset} data set holds no usable vector: {rejects.counts() or 'it is empty'}")
    return to_table(settle(faces, rejects), dataset)


def as_vector(values: object) -> Vector | str:
    """A flat list or array of finite numbers as float32; otherwise a phrase that says what is wrong."""
    if values is None:
        return "there is no vector"
    # Each item is looked at before NumPy is: nested lists that share their parts would grow without bound.
    if isinstance(values, list) and not all(type(value) in (float, int) for value in values):
        return "the vector is not a flat list of numbers"
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "fiu" or not array.size:
        return "the vector is not a flat list of numbers"
    with np.errstate(over="ignore"):
        vector = array.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(vector))
    if bad.size:
        return f"number {bad[0] + 1} of the vector is {array[bad[0]]}, not finite in float32"
    return vector


def read_vectors(
    root: Path,
    *,
    rejects: Rejects,
    id_column: str = "face_id",
    target_column: str = "target",
    vector_column: str = "vector",
    path_column: str | None = None,
    subject_column: str | None = None,
    groups: Sequence[str] | None = None,
    width: int | None = None,
) -> pa.Table:
    """Read vectors from Parquet: `face_id`, `target`, `vector` and any group columns.

    Parameters
    ----------
    root
        A Parquet file, or a folder of them that hold parts of one set.
    rejects
        Receives what is left out; a row without a face_id is a `bad_row`.
    id_column, target_column, vector_column
        The columns of keys, targets and vectors (fixed-size or variable lists of floats).
    path_column, subject_column
        The columns of paths and subjects; by default `path` and `subject`, if they are there.
    groups
        The group columns; by default all others.
    width
        How long vectors must be; by default as long as most of them are.

    Returns
    -------
    pyarrow.Table
        The manifest with the column `vector`.
    """
    records = []
    for file in source_files(root, "*.parquet"):
        schema = open_table(file).schema_arrow
        different(schema.names, file)
        wanted = {"id_column": id_column, "target_column": target_column, "vector_column": vector_column}
        wanted |= {
            setting: name
            for setting, name in (("path_column", path_column), ("subject_column", subject_column))
            if name is not None
        }
        for setting, name in [*wanted.items(), *(("groups", group) for group in groups or ())]:
            if name not in schema.names:
                raise lacking(file, name, schema.names, setting)
        kind = schema.field(vector_column).type
        if not is_vector_type(kind):
            raise UserError(f"{file}: column {vector_column!r} is {kind}, not lists of floats")
        paths = path_column or ("path" if "path" in schema.names else None)
        subjects = subject_column or ("subject" if "subject" in schema.names else None)
        used = {id_column, target_column, vector_column, paths, subjects, "dataset"}
        kept = [name for name in schema.names if name not in used] if groups is None else list(groups)
        check_groups(kept)
        table = read_rows(file, pa.types.is_fixed_size_list(kind))
        vectors = rows_of_vectors(table[vector_column])
        plain = [name for name in (id_column, target_column, paths, subjects, *kept) if name is not None]
        for index, row in enumerate(plain_columns(table, file, plain, [target_column]).to_pylist()):
            record = Record(
                None if paths is None or row[paths] is None else str(row[paths]),
                row[target_column],
                row[subjects] if subjects else None,
                {name: row[name] for name in kept},
                f"{file.name}, row {index + 1}",
            )
            key = row[id_column]
            if key is None or not str(key).strip():
                reject(record, rejects, "bad_row", f"there is no {id_column}")
            else:
                records.append(VectorRecord(record, vectors[index], printable(str(key))))
    return build_vector_manifest(records, "vectors", rejects, width)


def read_rows(path: Path, fixed: bool) -> pa.Table:
    """The whole table; fixed-size lists as lists of any size where some are null, which Arrow cannot read."""
    try:
        return read_table(path)
    except UserError:
        if not fixed:
            raise
        try:
            return as_lists(path)
        except (pa.ArrowException, OSError):  # it is damaged indeed
            pass
        raise


def as_lists(path: Path) -> pa.Table:
    """A Parquet file with the types that Parquet itself knows: its lists may be null, and of any size."""
    with path.open("rb") as file:
        file.seek(-FOOTER_END, os.SEEK_END)
        size = int.from_bytes(file.read(4), "little")
        file.seek(-FOOTER_END - size, os.SEEK_END)
        footer = file.read()
    # Under another name, nobody finds what Arrow noted of its own types.
    renamed = footer.replace(b"ARROW:schema", b"_RROW:schema")
    metadata = pq.read_metadata(io.BytesIO(b"PAR1" + renamed))
    return parquet_file(path, metadata=metadata).read()


def is_vector_type(kind: pa.DataType) -> bool:
    """Whether a column's type is a list of floats."""
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and bool(pa.types.is_floating(kind.value_type))


def rows_of_vectors(column: pa.ChunkedArray) -> list[npt.NDArray[np.floating] | None]:
    """The vectors of a list column, row by row, without a Python object for each number; nulls are NaN."""
    rows: list[npt.NDArray[np.floating] | None] = []
    for chunk in column.chunks:
        lengths = chunk.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        flat = chunk.flatten().to_numpy(zero_copy_only=False)
        ends = np.cumsum(lengths, dtype=np.int64)
        present = chunk.is_valid().to_numpy(zero_copy_only=False)
        rows += [
            flat[end - length : end] if is_there else None
            for end, length, is_there in zip(ends, lengths, present, strict=True)
        ]
    return rows
