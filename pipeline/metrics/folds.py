"""An error over the folds of a protocol and over seeds: its mean, and where its spread comes from."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class FoldScores(NamedTuple):
    """Mean and spreads of one measure.

    `mean` is over folds, each being the mean of its seeds. `fold_std` is the sample standard deviation of the
    folds' means: how much it matters who tests. `seed_std` is the pooled sample standard deviation of seeds
    within folds: how much chance in training matters. NaN where there are too few.
    """

    folds: int
    seeds: int
    diverged: int
    mean: float
    fold_std: float
    seed_std: float


def over_folds(scores: ArrayLike) -> FoldScores:
    """Mean and spread of scores (folds, seeds), NaN where a seed diverged.

    Papers give the mean over folds; a fold in which all seeds diverged is left out and counted among them.

    Examples
    --------
    >>> found = over_folds([[2.0, 2.2], [3.0, 3.4]])
    >>> round(found.mean, 2), round(found.fold_std, 3), round(found.seed_std, 3)
    (2.65, 0.778, 0.224)
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"scores must be (folds, seeds), at least one: their shape is {values.shape}")
    good = np.isfinite(values)
    known = [row[keep] for row, keep in zip(values, good, strict=True) if keep.any()]
    means = np.array([row.mean() for row in known])
    freedom = sum(row.size - 1 for row in known)
    squares = sum(float(np.square(row - row.mean()).sum()) for row in known)
    return FoldScores(
        folds=len(known),
        seeds=values.shape[1],
        diverged=int((~good).sum()),
        mean=float(means.mean()) if known else np.nan,
        fold_std=float(means.std(ddof=1)) if len(known) > 1 else np.nan,
        seed_std=float(np.sqrt(squares / freedom)) if freedom else np.nan,
    )
