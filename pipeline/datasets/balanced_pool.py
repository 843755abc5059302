"""The balanced pool: as many faces of each age for validation and test, the rest for training.

Source: F. Anda et al., "Vec2UAge: enhancing underage age estimation performance through facial
embeddings", 2021, section 3.3.3: 500 faces of each age from 1 to 18, divided into validation and test by
stratified shuffle split; the remaining faces train.
"""

import numpy as np
from sklearn.model_selection import StratifiedShuffleSplit

from pipeline.core.errors import UserError
from pipeline.datasets.split_faces import (
    HELD_OUT,
    TEST,
    TRAIN,
    VALIDATION,
    Faces,
    Integers,
    list_classes,
    warn,
)

HALVES = (VALIDATION, TEST)


def balanced_pool(faces: Faces, per_target: int, rng: np.random.Generator) -> Integers:
    """Put a balanced pool into validation and test, halves alike; the rest trains.

    Where an age has no more than `per_target` faces, the pool takes fewer of every age, so that it stays
    balanced: half of what the scarcest age has (an even number), so that as many are left to train on. Ages
    of fewer than three faces or subjects (one for each half, one to train on) stay out of the pool and
    train. Both are said in a `SmallClassWarning`.

    Where subjects are known, whole subjects are chosen until each half has its number of every age, those
    first whose faces are all needed. Faces of chosen subjects beyond that number are held out: training
    on them would leak the subject, and testing on them would unbalance the pool.

    Returns
    -------
    numpy.ndarray
        For each face TRAIN, VALIDATION, TEST or HELD_OUT.
    """
    if per_target < 2:
        raise UserError(f"per_target is {per_target}: a pool to be halved needs at least 2 faces of each age")
    sides, size, pooled = (pool_of_subjects if faces.known else pool_of_faces)(faces, per_target, rng)
    totals = np.bincount(faces.bins)
    if not pooled.any():
        listed = list_classes(faces, np.arange(len(totals)), totals)
        raise UserError(
            f"no age has enough faces or subjects for a pool: {listed}; bring more faces, widen "
            "split.bin_width, or choose another split.method"
        )
    if not pooled.all():
        warn(
            "too few faces or subjects to be in the validation and test pool, in training only: "
            + list_classes(faces, np.flatnonzero(~pooled), totals)
        )
    if size < per_target:
        scarce = np.flatnonzero(pooled & (totals <= per_target))
        why = f"too few of {list_classes(faces, scarce, totals)}" if scarce.size else "too few subjects"
        warn(f"the pool has {size} faces of each target instead of {per_target}: there are {why}")
    return sides


Pool = tuple[Integers, int, np.ndarray[tuple[int], np.dtype[np.bool_]]]


def pool_size(totals: Integers, per_target: int) -> int:
    """How many faces of each age to ask for, given how many there are of the ages that can be in the pool."""
    fewest = int(totals.min(initial=per_target + 1))
    if fewest > per_target:
        return per_target
    return max(2, fewest // 2 - fewest // 2 % 2)


def pool_of_faces(faces: Faces, per_target: int, rng: np.random.Generator) -> Pool:
    """A pool where no subject is known: any face may be in it."""
    totals = np.bincount(faces.bins)
    pooled = totals >= 3
    size = pool_size(totals[pooled], per_target)
    sides = np.full(len(faces.ids), TRAIN)
    if not pooled.any():
        return sides, 0, pooled
    chosen = np.concatenate(
        [rng.permutation(np.flatnonzero(faces.bins == k))[:size] for k in np.flatnonzero(pooled)]
    )
    halves = StratifiedShuffleSplit(n_splits=1, test_size=0.5, random_state=int(rng.integers(2**31)))
    validation, test = next(halves.split(chosen, faces.bins[chosen]))
    sides[chosen[validation]], sides[chosen[test]] = VALIDATION, TEST
    return sides, size, pooled


def pool_of_subjects(faces: Faces, per_target: int, rng: np.random.Generator) -> Pool:
    """A pool of whole subjects, shrunk until every age is filled in both halves."""
    members = faces.members()
    counts = [dict(zip(*np.unique(faces.bins[m], return_counts=True), strict=True)) for m in members]
    order = rng.permutation(len(members))
    holders = np.bincount([k for held in counts for k in held], minlength=len(faces.names))
    pooled = holders >= 3
    totals = np.bincount(faces.bins)
    size = pool_size(totals[pooled], per_target)
    while pooled.any():
        want = np.zeros((2, len(faces.names)), dtype=np.int64)
        want[:, pooled] = [[size - size // 2], [size // 2]]
        half_of, lacking = choose_subjects(counts, order, want, totals)
        if not lacking.any():
            return place(faces, members, half_of, want, rng), size, pooled
        filled = (want - lacking).min(axis=0)
        if filled[pooled].min() > 0:
            size = 2 * int(filled[pooled].min())
        elif size > 2:
            size = 2 * max(1, size // 4)
        else:
            # Even one face for each half cannot be had of these ages: they train, the others try again.
            pooled = pooled & (filled > 0)
            size = pool_size(totals[pooled], per_target)
    return np.full(len(faces.ids), TRAIN), 0, pooled


def choose_subjects(
    counts: list[dict[int, int]], order: Integers, want: Integers, totals: Integers
) -> tuple[Integers, Integers]:
    """Give subjects to the two halves until each has what it wants, or nobody can help any more.

    Subjects whose faces are all needed come first, then those with half of their faces needed, then any. A
    subject that would take an age's last faces out of training is passed over.

    Returns
    -------
    tuple
        For each subject its half (0, 1) or -1; and what each half still lacks, (2, bins).
    """
    half_of = np.full(len(counts), -1)
    lacking = [row.tolist() for row in want]
    missing = [sum(row) for row in lacking]
    training = totals.tolist()
    for share in (1.0, 0.5, 0.0):
        for subject in order:
            held = counts[subject]
            if half_of[subject] >= 0 or any(training[k] <= count for k, count in held.items()):
                continue
            useful = [sum(min(count, row[k]) for k, count in held.items()) for row in lacking]
            wish = [sum(row[k] for k in held) for row in lacking]
            half = max((0, 1), key=lambda side: (useful[side], wish[side], missing[side]))
            if useful[half] == 0 or useful[half] < share * sum(held.values()):
                continue
            half_of[subject] = half
            missing[half] -= useful[half]
            for k, count in held.items():
                lacking[half][k] -= min(count, lacking[half][k])
                training[k] -= count
    return half_of, np.array(lacking)


def place(
    faces: Faces, members: list[Integers], half_of: Integers, want: Integers, rng: np.random.Generator
) -> Integers:
    """Faces of chosen subjects into their half, as many of each age as wanted; the others held out."""
    sides = np.full(len(faces.ids), TRAIN)
    room = want.copy()
    for subject in np.flatnonzero(half_of >= 0):
        half = half_of[subject]
        for face in rng.permutation(members[subject]):
            k = faces.bins[face]
            sides[face] = HALVES[half] if room[half, k] > 0 else HELD_OUT
            room[half, k] -= 1
    return sides
