"""Faces of one subject stand together: what errors over faces say of other subjects.

Fifty pictures of a person err alike, so that they tell less than fifty people would. Subjects are one name or
number a face, None where unknown; a face of unknown subject stands alone, as if its subject had no other.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

FloatArray = NDArray[np.float64]
Integers = NDArray[np.int64]


def numbered(subjects: ArrayLike, count: int) -> Integers:
    """Each face's subject as a number from 0 on, (N,); a face of unknown subject has one of its own.

    Raises
    ------
    ValueError
        For another number of faces than `count`.

    Examples
    --------
    >>> numbered(["ann", "bob", "ann", None, None], 5)
    array([0, 1, 0, 2, 3])
    """
    codes, known = pd.factorize(pd.Series(subjects))
    if codes.shape != (count,):
        raise ValueError(f"{codes.size} subjects for {count} faces: one a face is needed")
    numbers = codes.astype(np.int64)
    unknown = numbers < 0
    numbers[unknown] = len(known) + np.arange(unknown.sum())
    return numbers


class Error(NamedTuple):
    """The standard error of a mean, and how many subjects it was learnt from."""

    size: float
    subjects: int


def standard_error(values: FloatArray, subjects: ArrayLike) -> Error:
    """The cluster-robust standard error of a mean over faces (N,); NaN for a single subject.

    Its square is G / (G - 1) times the sum over the G subjects of (the sum of their faces' deviations from
    the mean)^2, by N^2; of one face a subject it is the usual one.

    Source: Cameron and Miller, A practitioner's guide to cluster-robust inference, Journal of Human
    Resources 2015, section II; the mean is a regression on a constant.

    Examples
    --------
    >>> round(standard_error(np.array([1.0, 2.0, 3.0]), [0, 1, 2]).size, 6)
    0.57735
    >>> standard_error(np.array([1.0, 1.0, 3.0, 3.0]), ["ann", "ann", "bob", "bob"])
    Error(size=1.0, subjects=2)
    """
    sums = np.bincount(numbered(subjects, values.size), values - values.mean())
    count = sums.size
    if count < 2:
        return Error(np.nan, count)
    return Error(float(np.sqrt(count / (count - 1) * (sums**2).sum())) / values.size, count)


def effective_faces(held: NDArray[np.bool_], subjects: ArrayLike, confidence: float) -> float:
    """How many faces of as many subjects would know a share as well as these N faces do.

    N by the design effect, which is the cluster-robust variance of the share by that of independent faces and
    at least 1; and less still where subjects are few, by the square of the ratio of Student's quantiles for
    N - 1 and for G - 1 degrees of freedom. Where all faces hold or none, or there is a single subject, no
    variance can be had, and each of the G subjects counts as one face.

    Source: Korn and Graubard, Confidence intervals for proportions with small expected number of positive
    counts estimated from survey data, Survey Methodology 1998.

    Examples
    --------
    >>> half = np.array([True, True, False, False])
    >>> effective_faces(half, ["a", "b", "c", "d"], 0.95)
    4.0
    >>> effective_faces(half, ["a", "a", "b", "b"], 0.95) < 1
    True
    """
    share, count = float(held.mean()), held.size
    error, groups = standard_error(held.astype(np.float64), subjects)
    if groups < 2 or share in (0.0, 1.0):
        return float(groups)
    effect = max(1.0, error**2 * (count - 1) / (share * (1 - share)))
    tail = (1 + confidence) / 2
    few = stats.t.ppf(tail, count - 1) / stats.t.ppf(tail, groups - 1)
    return float(count / effect * few**2)


def wilson(share: float, size: float, confidence: float) -> tuple[float, float]:
    """Wilson's interval of a share of `size` faces, which need not be a whole number.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.

    Examples
    --------
    >>> [round(bound, 3) for bound in wilson(0.9, 10, 0.95)]
    [0.596, 0.982]
    """
    z = float(stats.norm.ppf((1 + confidence) / 2))
    middle = share + z**2 / (2 * size)
    half = z * np.sqrt(share * (1 - share) / size + (z / (2 * size)) ** 2)
    low, high = (middle - half) / (1 + z**2 / size), (middle + half) / (1 + z**2 / size)
    return 0.0 if share == 0 else float(low), 1.0 if share == 1 else float(high)


def drawn_means(
    values: FloatArray, groups: Integers, subjects: ArrayLike, draws: int, rng: np.random.Generator
) -> FloatArray:
    """How far groups' means would lie from where they are with other subjects, drawn (draws, K) times.

    Student's distribution with cluster-robust variances and one degree of freedom fewer than a group has
    subjects. Groups that share subjects, as bands of age do, move together as their covariance says, and
    are too narrow or too wide together.

    Parameters
    ----------
    values, groups, subjects
        (N,); groups are numbered from 0 to K - 1, and negative where unknown.
    draws, rng
        How many, and from where.

    Returns
    -------
    ndarray
        NaN all over where a group has a single subject.
    """
    known = groups >= 0
    some, group = values[known], groups[known]
    owner = numbered(np.asarray(subjects)[known], some.size)
    faces = np.bincount(group)
    shape = (int(owner.max()) + 1, faces.size)
    cells = owner * faces.size + group
    deviations = some - (np.bincount(group, some) / faces)[group]
    sums = np.bincount(cells, deviations, minlength=shape[0] * shape[1]).reshape(shape)
    shown = np.bincount(cells, minlength=sums.size).reshape(shape) > 0
    counts = shown.sum(axis=0)
    if (counts < 2).any():
        return np.full((draws, faces.size), np.nan)
    scaled = sums / faces * np.sqrt(counts / (counts - 1))
    sizes, directions = np.linalg.eigh(scaled.T @ scaled)
    normal = rng.standard_normal((draws, faces.size)) * np.sqrt(np.maximum(sizes, 0)) @ directions.T
    if (shown.sum(axis=1) > 1).any():
        chance = rng.random(draws)
        variances = np.stack([stats.chi2.ppf(chance, count - 1) for count in counts], axis=1)
    else:
        variances = rng.chisquare(counts - 1, normal.shape)
    drawn: FloatArray = normal / np.sqrt(variances / (counts - 1))
    return drawn
