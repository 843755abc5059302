"""Faces with their vectors, block by block, so that the whole never has to be in memory at once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.core.tables import ROW_GROUP_ROWS, vector_type
from pipeline.encoders.embedding import vectors_of
from pipeline.encoders.encoder import Combine, Encoder, Vectors


def with_vectors(table: pa.Table, vectors: Vectors) -> pa.Table:
    """A table with one more column, `vector`, taken from an array (rows, D) of float32."""
    width = vectors.shape[1]
    flat = pa.array(vectors.reshape(-1), pa.float32())
    column = pa.FixedSizeListArray.from_arrays(flat, type=vector_type(width))
    return table.append_column(pa.field("vector", vector_type(width), nullable=False), column)


def stored_blocks(
    faces: pa.Table,
    crop_ids: Sequence[str],
    encoders: Sequence[Encoder],
    store_root: Path,
    how: Combine,
) -> Iterator[pa.Table]:
    """Faces with the vectors that the stores hold for their crops.

    Parameters
    ----------
    faces
        One row a face.
    crop_ids
        The crop of each row.
    encoders, store_root, how
        As for `vectors_of`.

    Yields
    ------
    pyarrow.Table
        The next rows of `faces` with the column `vector`.
    """
    for start in range(0, faces.num_rows, ROW_GROUP_ROWS):
        block = faces.slice(start, ROW_GROUP_ROWS)
        keys = crop_ids[start : start + ROW_GROUP_ROWS]
        yield with_vectors(block, vectors_of(keys, encoders, store_root, how))
