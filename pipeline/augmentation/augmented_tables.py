"""What augmentation produced, as tables: the pictures' vectors, the similarities, the balance of ages."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.augmentation.augmenting import Kept, Tally
from pipeline.core.bins import bin_name
from pipeline.core.tables import ROW_GROUP_ROWS, vector_type
from pipeline.encoders.face_table import with_vectors


def augmented_schema(faces: pa.Schema) -> pa.Schema:
    """The columns of faces.parquet, then parent_id, operation and similarity."""
    vector = faces.field("vector")
    others = [field for field in faces if field.name != "vector"]
    return pa.schema(
        [
            *others,
            pa.field("parent_id", pa.string()),
            pa.field("operation", pa.string()),
            pa.field("similarity", pa.float64()),
            pa.field("vector", vector_type(vector.type.list_size), nullable=False),
        ]
    )


def augmented_blocks(
    kept: Iterable[Sequence[Kept]], parents: pa.Table, schema: pa.Schema
) -> Iterator[pa.Table]:
    """Kept pictures as rows that inherit target, split and groups from their parents, a block at a time."""
    row_of = {face: row for row, face in enumerate(parents["face_id"].to_pylist())}
    waiting: list[Kept] = []

    def block() -> pa.Table:
        inherited = parents.take(pa.array([row_of[one.parent_id] for one in waiting], pa.int64()))
        inherited = inherited.set_column(0, "face_id", pa.array([one.key for one in waiting], pa.string()))
        inherited = inherited.append_column("parent_id", pa.array([one.parent_id for one in waiting]))
        inherited = inherited.append_column("operation", pa.array([one.operation for one in waiting]))
        inherited = inherited.append_column("similarity", pa.array([one.similarity for one in waiting]))
        return with_vectors(inherited, np.stack([one.vector for one in waiting])).cast(schema)

    for face in kept:
        waiting += [replace(one, image=None) for one in face]  # a block of pictures would be a gigabyte
        if len(waiting) >= ROW_GROUP_ROWS:
            yield block()
            waiting = []
    if waiting:
        yield block()


def calibration_table(
    kept: Iterable[Sequence[Kept]], limits: tuple[float, float], published: Mapping[str, float]
) -> pa.Table:
    """Cosine similarity to the original by operation: mean, spread, count, and the share within the limits.

    Parameters
    ----------
    kept
        Pictures drawn without a filter.
    limits
        The smallest and the largest similarity that would be kept.
    published
        What the paper's Table 1 gives, by the operation's name, for FaceNet and one picture.
    """
    similarities: dict[str, list[float]] = defaultdict(list)
    for face in kept:
        for one in face:
            similarities[one.operation].append(one.similarity)
    rows = []
    for operation, values in similarities.items():
        found = np.array(values)
        low, middle, high = np.quantile(found, [0.05, 0.5, 0.95])
        rows.append(
            {
                "operation": operation,
                "count": len(found),
                "mean": found.mean(),
                "std": found.std(ddof=1) if len(found) > 1 else None,
                "p5": low,
                "median": middle,
                "p95": high,
                "kept": ((found >= limits[0]) & (found <= limits[1])).mean(),
                "table_1": published.get(operation.partition("(")[0].partition("@")[0]),
            }
        )
    return pa.Table.from_pylist(rows)


def balance_table(
    bins: npt.NDArray[np.int64],
    face_ids: Sequence[str],
    slots: npt.NDArray[np.int64],
    tally: Tally,
    bin_width: float | None = None,
) -> pa.Table:
    """By age, or by bin with its limits: originals, augmented pictures, what could not be filled, total."""
    unfilled = np.array([tally.unfilled[face] for face in face_ids], dtype=np.int64)
    rows = []
    for one in np.unique(bins):
        here = bins == one
        missing = int(unfilled[here].sum())
        augmented = int(slots[here].sum()) - missing
        originals = int(here.sum())
        rows.append(
            {
                "bin": int(one),
                "limits": bin_name(int(one), bin_width),
                "originals": originals,
                "augmented": augmented,
                "unfilled": missing,
                "total": originals + augmented,
            }
        )
    return pa.Table.from_pylist(rows)
