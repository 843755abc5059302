"""Near-duplicates on both sides of a split: the same picture under two names."""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.progress import track

DEFAULT_THRESHOLD = 0.9
MOST_PAIRS = 1_000_000
# float32 products differ in the last digits between machines; what is near the threshold is decided again
# in float64.
SLACK = 1e-5
SCHEMA = pa.schema(
    [
        ("face_id_a", pa.string()),
        ("split_a", pa.string()),
        ("face_id_b", pa.string()),
        ("split_b", pa.string()),
        ("cosine", pa.float64()),
    ]
)


def leaks(
    vectors: npt.NDArray[np.float32],
    face_ids: Sequence[str] | pa.ChunkedArray,
    splits: Sequence[str] | pa.ChunkedArray,
    threshold: float = DEFAULT_THRESHOLD,
    *,
    centre: bool = True,
    block: int = 2048,
    widths: Sequence[int] = (),
) -> pa.Table:
    """Pairs of faces in different splits whose vectors are nearly alike.

    With several encoders a pair must be alike to each of them: in the whole vector the encoder with the
    longest vectors would decide alone.

    Parameters
    ----------
    vectors
        (N, D), finite.
    face_ids, splits
        N each, as lists or table columns; the split of each vector.
    threshold
        The smallest cosine to report. The default is meant for centred vectors. It was chosen on dlib's
        vectors of 3,656 UTKFace photographs of adults, against the correlation of the pictures
        themselves (32 x 32 grey pixels): of the 28 pairs above 0.95 there, 26 have a centred
        cosine of 0.9 or more, and 37 pairs in all do. Unrelated faces stay well below: of random pairs, one
        in 10,000 reaches 0.78.
    centre
        Take the mean of all vectors off first. Face networks put all faces into one corner of their space:
        raw cosines of unrelated faces are 0.83 in the middle and 0.97 for one random pair in 10,000, which
        leaves no room for a threshold that also holds for the next encoder.
    block
        Rows compared at a time; memory is of the order of block x (block + D) numbers.
    widths
        How wide each encoder's part of the vectors is, together D; by default there is one.

    Returns
    -------
    pyarrow.Table
        face_id_a, split_a, face_id_b, split_b, cosine (to six digits, the smallest over the encoders); a is
        the smaller face_id; most alike first.

    Raises
    ------
    UserError
        A vector is not finite, or there are more than a million pairs.

    Examples
    --------
    >>> vectors = np.array([[1, 0], [1, 0.001], [0, 1]], dtype=np.float32)
    >>> leaks(vectors, ["p", "q", "r"], ["train", "test", "test"], 0.99, centre=False).to_pylist()
    [{'face_id_a': 'p', 'split_a': 'train', 'face_id_b': 'q', 'split_b': 'test', 'cosine': 1.0}]
    """
    if not len(vectors) == len(face_ids) == len(splits):
        raise ValueError(f"{len(vectors)} vectors, {len(face_ids)} face_ids and {len(splits)} splits")
    face_ids, splits = texts(face_ids), texts(splits)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise UserError(f"the vector of face {face_ids[bad[0]]} is not finite: run embed again")
    parts = np.split(vectors, np.cumsum(widths or [vectors.shape[1]])[:-1], axis=1)
    units = [unit_vectors(part, centre) for part in parts]
    rows_of = {kind: np.flatnonzero(np.array(splits) == kind) for kind in sorted(set(splits))}
    pairs = [
        (first, second)
        for one, other in itertools.combinations(rows_of.values(), 2)
        for first in blocks(one, block)
        for second in blocks(other, block)
    ]
    found: list[tuple[float, str, str, str, str]] = []
    for first, second in track(pairs, "looking for near-duplicates", len(pairs)):
        alike = units[0][first] @ units[0][second].T >= threshold - SLACK
        for unit in units[1:]:
            alike &= unit[first] @ unit[second].T >= threshold - SLACK
        near = np.argwhere(alike)
        if len(found) + len(near) > MOST_PAIRS:
            many = f"more than {MOST_PAIRS} pairs of faces have a cosine of {threshold:g}"
            raise UserError(f"{many}: raise the threshold")
        a, b = first[near[:, 0]], second[near[:, 1]]
        cosines = np.min([exact_cosines(unit[a], unit[b]) for unit in units], axis=0)
        for pair, cosine in zip(zip(a, b, strict=True), cosines, strict=True):
            if cosine >= threshold:
                i, j = sorted(pair, key=face_ids.__getitem__)
                row = (face_ids[i], splits[i], face_ids[j], splits[j])
                found.append((round(float(cosine), 6), *row))
    found.sort(key=lambda pair: (-pair[0], *pair[1:]))
    columns = [[pair[k] for pair in found] for k in (1, 2, 3, 4, 0)]
    return pa.table(columns, schema=SCHEMA)


def texts(column: Sequence[str] | pa.ChunkedArray) -> list[str]:
    """A table's column, or any sequence, as a list."""
    return list(column.to_pylist() if isinstance(column, pa.ChunkedArray) else column)


def unit_vectors(vectors: npt.NDArray[np.float32], centre: bool) -> npt.NDArray[np.float32]:
    """Vectors of length one; a vector of zeros stays one, alike to nothing."""
    mean = vectors.mean(axis=0, dtype=np.float64) if centre else np.zeros(vectors.shape[1])
    units: npt.NDArray[np.float32] = vectors - mean.astype(np.float32)
    lengths = np.linalg.norm(units, axis=1, keepdims=True)
    units /= np.where(lengths > 0, lengths, np.float32(1))
    return units


def exact_cosines(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The cosines of unit vectors, (N, D) each, row by row in float64."""
    cosines: npt.NDArray[np.float64] = np.einsum("nd,nd->n", a.astype(np.float64), b.astype(np.float64))
    return cosines


def blocks(rows: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    """Rows in pieces of at most `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
