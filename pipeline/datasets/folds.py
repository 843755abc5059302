"""k-fold splits: made here, or published with a data set."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

from pipeline.datasets.split_faces import TEST, TRAIN, VALIDATION, Faces, Integers, list_classes, warn
from pipeline.errors import UserError

# The published divisions of the Facial Age Estimation Benchmark's ten folders: validation, test.
PUBLISHED = (((6, 7), (8, 9)), ((8, 9), (0, 1)), ((0, 1), (2, 3)), ((1, 2), (3, 4)), ((2, 3), (4, 5)))


def fold_sides(faces: Faces, folds: int, fold: int, seed: int) -> Integers:
    """One of `folds` folds tests, the next one validates."""
    if folds < 3 or not 0 <= fold < folds:
        raise UserError(
            f"fold {fold} of {folds}: there must be at least 3 folds (one tests, one validates), "
            "and fold counts from 0"
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
        rounds = list(splitter.split(faces.bins, faces.bins, groups))
    sides = np.full(len(faces.ids), TRAIN)
    sides[rounds[fold][1]] = TEST
    sides[rounds[(fold + 1) % folds][1]] = VALIDATION
    return sides


def folder_sides(manifest: pa.Table, faces: Faces, column: str, fold: int) -> Integers:
    """A published division, told by a column of folders."""
    columns = ", ".join(manifest.column_names)
    if column not in manifest.column_names:
        raise UserError(f"the manifest has no column {column!r} to split by: it has {columns}")
    by_id = dict(zip(manifest["face_id"].to_pylist(), manifest[column].to_pylist(), strict=True))
    folders = [by_id[face_id] for face_id in faces.ids]
    if None in folders:
        raise UserError(
            f"face {faces.ids[folders.index(None)]} has no {column!r}: the division is incomplete"
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
