"""k-fold splits: made here, or published with a data set."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

from pipeline.core.errors import UserError
from pipeline.core.files import listed
from pipeline.datasets.split_faces import TEST, TRAIN, VALIDATION, Faces, Integers, list_classes, warn

NAMED = {
    "train": TRAIN,
    "valid": VALIDATION,
    "val": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
}
"""What a published division calls its parts, where it does not number them."""
# The published divisions of the Facial Age Estimation Benchmark's ten folders: validation, test.
PUBLISHED = (((6, 7), (8, 9)), ((8, 9), (0, 1)), ((0, 1), (2, 3)), ((1, 2), (3, 4)), ((2, 3), (4, 5)))


def fold_sides(faces: Faces, folds: int, fold: int, seed: int) -> Integers:
    """One of `folds` folds tests, the next one validates."""
    rounds = folds_of(faces, folds, seed, least=3, fold=fold)
    sides = np.full(len(faces.ids), TRAIN)
    sides[rounds[fold]] = TEST
    sides[rounds[(fold + 1) % folds]] = VALIDATION
    return sides


def folds_of(faces: Faces, folds: int, seed: int, *, least: int, fold: int = 0) -> list[Integers]:
    """The faces of each fold, as positions: every age spread over all folds, every subject in one."""
    if folds < least or not 0 <= fold < folds:
        parts = "one tests, one validates" if least > 2 else "one tests, the others train"
        raise UserError(
            f"fold {fold} of {folds}: there must be at least {least} folds ({parts}), and fold counts from 0"
        )
    if len(np.unique(faces.subjects)) < folds:
        raise UserError(f"{folds} folds need as many subjects: there are {len(np.unique(faces.subjects))}")
    totals = np.bincount(faces.bins)
    rare = np.flatnonzero(totals < folds)
    if rare.size:
        warn(f"too few faces to be in each of {folds} folds: {list_classes(faces, rare, totals)}")
    shuffled: dict[str, Any] = {"n_splits": folds, "shuffle": True, "random_state": seed}
    if rare.size == totals.size:
        splitter: Any = GroupKFold(**shuffled)
    else:
        splitter = StratifiedGroupKFold(**shuffled) if faces.known else StratifiedKFold(**shuffled)
    groups = None if isinstance(splitter, StratifiedKFold) else faces.subjects
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return [test for _, test in splitter.split(faces.bins, faces.bins, groups)]


def folder_sides(manifest: pa.Table, faces: Faces, column: str, fold: int) -> Integers:
    """A published division, told by a column of folders."""
    folders = column_of(manifest, faces, column)
    named = sorted(set(folders) & set(NAMED))
    if named:
        # in the order of their names, validation faces would train and training faces choose the model
        raise UserError(
            f"column {column!r} names its parts ({', '.join(named)}), which are no folds: set split.method "
            "to published"
        )
    kinds = sorted(set(folders), key=lambda kind: (not kind.isdecimal(), kind.zfill(20)))
    if set(kinds) <= {"0", "1", "2"}:
        rounds: Sequence[tuple[set[str], set[str]]] = [({"1"}, {"2"})]
    elif kinds == [str(number) for number in range(10)]:
        rounds = [({str(v) for v in validates}, {str(t) for t in tests}) for validates, tests in PUBLISHED]
    else:
        rounds = [({kinds[(k + 1) % len(kinds)]}, {kinds[k]}) for k in range(len(kinds))]
    if not 0 <= fold < len(rounds):
        raise UserError(f"fold {fold}: column {column!r} gives {len(rounds)} division(s), counted from 0")
    validates, tests = rounds[fold]
    codes = [TEST if kind in tests else VALIDATION if kind in validates else TRAIN for kind in folders]
    return np.array(codes, dtype=np.int64)


def column_of(manifest: pa.Table, faces: Faces, column: str) -> list[str]:
    """A text column of the manifest in the faces' order, with a value for every face.

    Raises
    ------
    UserError
        There is no such column, it is not text, or a face has no value.
    """
    if column not in manifest.column_names:
        columns = listed(manifest.column_names)
        raise UserError(f"the manifest has no column {column!r} to split by: it has {columns}")
    if not pa.types.is_string(manifest.schema.field(column).type):
        raise UserError(f"column {column!r} holds numbers: faces can be split by a column of text")
    by_id = dict(zip(manifest["face_id"].to_pylist(), manifest[column].to_pylist(), strict=True))
    values = [by_id[face_id] for face_id in faces.ids]
    if None in values:
        face_id = faces.ids[values.index(None)]
        named = manifest["path"].to_pylist() if "path" in manifest.column_names else []
        path = dict(zip(manifest["face_id"].to_pylist(), named, strict=False)).get(face_id)
        raise UserError(
            f"face {face_id}{f' ({path})' if path else ''} has no {column!r}: the division is incomplete "
            f"({values.count(None)} such faces); give it one, and where rows on one image disagree, as the "
            "rejects of ingest say, correct one of them"
        )
    return values
