"""Protocols that papers report by: cross-validation, published divisions, trained here and tested there.

In all of them some faces test, and of the others a fraction chosen by subject validates.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.datasets.fold_splits import NAMED, column_of, folds_of
from pipeline.datasets.split_faces import TEST, TRAIN, VALIDATION, Faces, Integers


def cross_validation_sides(
    manifest: pa.Table,
    faces: Faces,
    folds: int,
    fold: int,
    folder: str | None,
    validation: float,
    seed: int,
    rng: np.random.Generator,
) -> Integers:
    """Fold number `fold` of `folds` tests: folds made here, or those that a column names."""
    sides = np.full(len(faces.ids), TRAIN)
    if folder is None:
        sides[folds_of(faces, folds, seed, least=2)[fold]] = TEST
    else:
        named = column_of(manifest, faces, folder)
        kinds = sorted(set(named), key=lambda kind: (not kind.isdecimal(), kind.zfill(20)))
        if not 0 <= fold < len(kinds) or len(kinds) < 2:
            raise UserError(
                f"fold {fold}: column {folder!r} gives {len(kinds)} fold(s), counted from 0; two are needed"
            )
        sides[[kind == kinds[fold] for kind in named]] = TEST
    return with_validation(faces, sides, validation, rng)


def published_sides(
    manifest: pa.Table, faces: Faces, folder: str | None, validation: float, rng: np.random.Generator
) -> Integers:
    """The division that a column tells: train, test, and perhaps validation."""
    if folder is None:
        raise UserError("split.folder must name the column that holds the published division")
    named = column_of(manifest, faces, folder)
    strange = sorted(set(named) - set(NAMED))
    if strange:
        raise UserError(
            f"column {folder!r} holds {strange[0]!r}: a published division knows {', '.join(NAMED)}"
        )
    sides = np.array([NAMED[kind] for kind in named], dtype=np.int64)
    return sides if (sides == VALIDATION).any() else with_validation(faces, sides, validation, rng)


def across_sides(
    manifest: pa.Table,
    faces: Faces,
    folder: str | None,
    test_on: Sequence[str] | None,
    validation: float,
    rng: np.random.Generator,
) -> Integers:
    """Faces with certain values in a column test, by default of the column `dataset`; the others train."""
    column = folder or "dataset"
    named = column_of(manifest, faces, column)
    known = sorted(set(named))
    if not test_on:
        raise UserError(f"split.test_on must list values of the column {column!r}: it has {', '.join(known)}")
    for value in test_on:
        if value not in known:
            raise UserError(f"split.test_on names {value!r}: the column {column!r} has {', '.join(known)}")
    sides = np.where(np.isin(named, list(test_on)), TEST, TRAIN).astype(np.int64)
    return with_validation(faces, sides, validation, rng)


def with_validation(faces: Faces, sides: Integers, fraction: float, rng: np.random.Generator) -> Integers:
    """Some subjects' training faces made validation faces: about a fraction of them, whole subjects."""
    if not 0 < fraction < 1:
        raise UserError(f"validation {fraction:g} must be above 0 and below 1")
    training = np.flatnonzero(sides == TRAIN)
    subjects, sizes = np.unique(faces.subjects[training], return_counts=True)
    order = rng.permutation(len(subjects))
    middles = np.cumsum(sizes[order]) - sizes[order] / 2
    chosen = subjects[order[middles <= fraction * len(training)]]
    made = sides.copy()
    made[training[np.isin(faces.subjects[training], chosen)]] = VALIDATION
    return made
