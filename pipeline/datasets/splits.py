"""Which faces train, which choose the model, which test it.

Every method depends on the faces and the seed alone, never on the order of rows, and keeps all faces of a
known subject on one side. A face without a subject is taken as a subject of its own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.core.seeds import derive_seed
from pipeline.datasets.balanced_pool import balanced_pool
from pipeline.datasets.fold_splits import fold_sides, folder_sides
from pipeline.datasets.protocols import across_sides, cross_validation_sides, published_sides
from pipeline.datasets.split_faces import (
    HELD_OUT,
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    Faces,
    Integers,
    describe,
    list_classes,
    warn,
)

METHODS = ("paper", "random", "stratified", "folds", "repeated", "cross_validation", "published", "across")


def split(
    manifest: pa.Table,
    method: str,
    *,
    seed: int,
    rejects: Rejects | None = None,
    per_target: int = 500,
    validation: float = 0.2,
    test: float = 0.2,
    folds: int = 5,
    fold: int = 0,
    bin_width: float | None = None,
    folder: str | None = None,
    test_on: Sequence[str] | None = None,
) -> pa.Table:
    """Divide faces into training, validation and test.

    Parameters
    ----------
    manifest
        With face_id, target and, where known, subject.
    method
        `paper`: a balanced pool of `per_target` faces of each age, halved into validation and test; the rest
        trains (see `pipeline.datasets.balanced_pool`). `random`: the fractions `validation` and `test` of
        all faces. `stratified`: the same fractions of each age. `folds`: fold number `fold` of `folds`
        tests, the next one validates; or the folders of a published division. `repeated`: as `random`, drawn
        anew for each `fold` of `folds`. `cross_validation`: fold number `fold` tests. `published`: a column
        that says train and test. `across`: faces of one data set, or group, test. In the last three the
        fraction `validation` of the faces that do not test validates.
    seed
        The run's root seed.
    rejects
        Receives the faces that `paper` leaves out: of a subject in the pool, those that it has no room for.
        They must not train, and would unbalance the pool (`subject_held_out`).
    per_target, validation, test, folds, fold
        As above.
    bin_width
        Targets are put into bins of this width; None takes whole numbers as they are.
    folder
        With `folds`: the column that holds a published division. Folders 0, 1, 2 are training, validation and
        test; ten folders give the benchmark's five divisions; of any other number, folder `fold` (in sorted
        order) tests and the next one validates. With `cross_validation`: the column that holds the folds.
        With `published`: the column of train, test and perhaps validation. With `across`: the column that
        `test_on` is about, by default `dataset`.
    test_on
        With `across`: the values whose faces test.

    Returns
    -------
    pyarrow.Table
        face_id and split (train, validation or test), sorted by face_id.

    Raises
    ------
    UserError
        The setting does not fit the faces, or a split would be empty or leak a subject.

    Warns
    -----
    SmallClassWarning
        Ages have too few faces; the message names them with their numbers.
    """
    if method not in METHODS:
        raise UserError(f"unknown split {method!r}: choose one of {', '.join(METHODS)}")
    if method in ("repeated", "cross_validation") and not 0 <= fold < folds:
        raise UserError(f"fold {fold} of {folds}: fold counts from 0")
    made_here = method in ("folds", "cross_validation") and folder is None
    faces = describe(manifest, bin_width, binned=method in ("paper", "stratified") or made_here)
    drawn = (fold,) if method in ("repeated", "cross_validation") else ()
    rng = np.random.default_rng(derive_seed(seed, "split", method, *drawn))
    if method == "paper":
        sides = balanced_pool(faces, per_target, rng)
        leave_out(faces, sides, Rejects() if rejects is None else rejects)
    elif method in ("random", "repeated"):
        sides = random_sides(faces, check_fractions(validation, test), rng)
    elif method == "stratified":
        sides = stratified_sides(faces, check_fractions(validation, test), rng)
    elif method == "cross_validation":
        # the folds are the same for every fold, only who validates is drawn anew
        own = derive_seed(seed, "split", method)
        sides = cross_validation_sides(manifest, faces, folds, fold, folder, validation, own, rng)
    elif method == "published":
        sides = published_sides(manifest, faces, folder, validation, rng)
    elif method == "across":
        sides = across_sides(manifest, faces, folder, test_on, validation, rng)
    elif folder is None:
        sides = fold_sides(faces, folds, fold, derive_seed(seed, "split", method))
    else:
        sides = folder_sides(manifest, faces, folder, fold)
    for code, name in enumerate(SPLITS):
        if not (sides == code).any():
            raise UserError(
                f"the {method} split of {len(faces.ids)} faces leaves none for {name}: "
                "ask for less, or bring more faces or subjects"
            )
    table = pa.table(
        {
            "face_id": [face_id for face_id, side in zip(faces.ids, sides, strict=True) if side != HELD_OUT],
            "split": [SPLITS[side] for side in sides if side != HELD_OUT],
        }
    )
    assert_disjoint(table, manifest)
    return table


def every_fold(
    manifest: pa.Table, method: str, *, seed: int, folds: int = 5, **settings: Any
) -> list[pa.Table]:
    """The splits of all folds of a protocol such as `cross_validation`; arguments as of `split`.

    Errors are then reported as mean and spread over folds and seeds: see `pipeline.metrics.folds`.
    """
    return [split(manifest, method, seed=seed, folds=folds, fold=fold, **settings) for fold in range(folds)]


def leave_out(faces: Faces, sides: Integers, rejects: Rejects) -> None:
    """List the faces of pool subjects that the pool has no room for."""
    for index in np.flatnonzero(sides == HELD_OUT):
        rejects.add(
            stage="split",
            reason="subject_held_out",
            detail="the subject is in the balanced pool, which has no room for this face; it must not train",
            face_id=faces.ids[index],
        )


def check_fractions(validation: float, test: float) -> tuple[float, float]:
    """Two fractions that leave something to train on."""
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise UserError(f"validation {validation:g} and test {test:g} must be above 0 and together below 1")
    return validation, test


def random_sides(faces: Faces, fractions: tuple[float, float], rng: np.random.Generator) -> Integers:
    """Shuffle the subjects; the first test, the next validate, the rest train."""
    members = faces.members()
    order = rng.permutation(len(members))
    sizes = np.array([len(members[subject]) for subject in order])
    middles = np.cumsum(sizes) - sizes / 2
    validation, test = (fraction * len(faces.ids) for fraction in fractions)
    side_of = np.full(len(members), TRAIN)
    side_of[order[middles <= validation + test]] = VALIDATION
    side_of[order[middles <= test]] = TEST
    return side_of[faces.subjects]


def stratified_sides(faces: Faces, fractions: tuple[float, float], rng: np.random.Generator) -> Integers:
    """Give each subject, the largest first, to the split that lacks most of what it has."""
    members = faces.members()
    totals = np.bincount(faces.bins, minlength=len(faces.names))
    shares = np.array([1 - sum(fractions), *fractions])
    rare = totals * min(fractions) < 0.5
    if rare.any():
        listed = list_classes(faces, np.flatnonzero(rare), totals)
        warn(f"too few faces to be in every split: {listed}")
    lacking = shares[:, None] * totals[None, :]
    side_of = np.empty(len(members), dtype=np.int64)
    order = rng.permutation(len(members))
    order = order[np.argsort([-len(members[subject]) for subject in order], kind="stable")]
    left = lacking.sum(axis=1)
    for subject in order:
        bins, counts = np.unique(faces.bins[members[subject]], return_counts=True)
        wish = lacking[:, bins] @ counts
        side = max((TRAIN, VALIDATION, TEST), key=lambda k: (wish[k], left[k]))
        lacking[side, bins] -= counts
        left[side] -= counts.sum()
        side_of[subject] = side
    return side_of[faces.subjects]


def assert_disjoint(splits: pa.Table, manifest: pa.Table) -> None:
    """Refuse splits that share a face or a subject.

    Parameters
    ----------
    splits
        face_id and split.
    manifest
        face_id and, where known, subject.

    Raises
    ------
    UserError
        Names the first face or subject, and the splits it is in.
    """
    subjects = {}
    if "subject" in manifest.column_names:
        subjects = dict(zip(manifest["face_id"].to_pylist(), manifest["subject"].to_pylist(), strict=True))
    seen: set[str] = set()
    side_of: dict[str, str] = {}
    for face_id, side in zip(splits["face_id"].to_pylist(), splits["split"].to_pylist(), strict=True):
        if face_id in seen:
            raise UserError(f"face {face_id} is in the splits twice: run split again")
        seen.add(face_id)
        subject = subjects.get(face_id)
        if subject is not None and side_of.setdefault(subject, side) != side:
            raise UserError(
                f"subject {subject!r} is in both {side_of[subject]} and {side}: a model would be tested on "
                "people it was trained on; choose another split"
            )
