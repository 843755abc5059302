"""Whether stated uncertainty is true: coverage, width, CRPS, PIT, and the conformal quantile.

Intervals come as `lower` and `upper`, distributions as quantiles at known probabilities; all in the unit of
the target. A lower bound never lies above its upper bound.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pipeline.metrics.clusters import effective_faces, wilson
from pipeline.metrics.distributions import CONFIDENCE, Estimate

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """One method, calibrated in one way, on N faces whose targets are known.

    Attributes
    ----------
    method, kind
        Such as `ensemble` and `local`.
    levels
        (L,) of the intervals.
    prediction, target
        (N,).
    lower, upper
        (N, L).
    crps, pit
        (N,) of the whole predicted distribution.
    under
        (N,) the probability of being under the threshold; None where no threshold is asked for.
    subjects
        (N,) whom each face shows, as a number; None where nobody knows.
    """

    method: str
    kind: str
    levels: tuple[float, ...]
    prediction: FloatArray
    target: FloatArray
    lower: FloatArray
    upper: FloatArray
    crps: FloatArray
    pit: FloatArray
    under: FloatArray | None
    subjects: NDArray[np.int64] | None = None


STEPS = 200
"""Quantiles that a CRPS is summed over."""

ROWS = 4096  # faces whose quantiles are in memory at once


def conformal_quantile(scores: ArrayLike, level: float) -> float:
    """The smallest bound that a new score keeps with at least the probability `level`.

    Of n scores it is the ceil(level (n + 1))-th smallest: the finite-sample correction, by which a score
    that is exchangeable with them is covered with a probability between level and level + 1 / (n + 1).

    Source: Lei et al., Distribution-free predictive inference for regression, JASA 2018, section 2.2.

    Returns
    -------
    float
        Infinity where n is too small for this level: no finite bound is then sure to hold.

    Examples
    --------
    >>> conformal_quantile([3.0, 1.0, 2.0, 4.0], 0.5)
    3.0
    >>> conformal_quantile([3.0, 1.0, 2.0, 4.0], 0.9)
    inf
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: it must lie between 0 and 1")
    # a level such as 0.9 is a little above nine tenths in binary, which must not cost a rank
    rank = int(np.ceil(level * (ordered.size + 1) - 1e-9))
    return float(ordered[rank - 1]) if rank <= ordered.size else np.inf


def faces_needed(level: float) -> int:
    """How many calibration faces a finite interval of this level takes.

    Examples
    --------
    >>> faces_needed(0.95)
    19
    """
    return int(np.ceil(level / (1 - level) - 1e-9))


def share_interval(part: int, whole: int, confidence: float = CONFIDENCE) -> Estimate:
    """A share with Wilson's interval, NaN where there is nothing to take a share of.

    Examples
    --------
    >>> [round(number, 3) for number in share_interval(9, 10)]
    [0.9, 0.596, 0.982]
    """
    if whole == 0:
        return Estimate(np.nan, np.nan, np.nan)
    bounds = stats.binomtest(part, whole).proportion_ci(confidence, method="wilson")
    return Estimate(part / whole, float(bounds.low), float(bounds.high))


def share_of(held: ArrayLike, subjects: ArrayLike | None = None, confidence: float = CONFIDENCE) -> Estimate:
    """The share of faces that hold, with Wilson's interval, NaN where there is none.

    Where it is known whom faces show, the interval is that of the effective number of faces: their number by
    the design effect of the cluster-robust variance, as Korn and Graubard do. See `effective_faces`.

    Parameters
    ----------
    held
        (N,), yes or no.
    subjects
        (N,), None where unknown.

    Examples
    --------
    >>> [round(number, 3) for number in share_of([True, True, True, False])]
    [0.75, 0.301, 0.954]
    >>> [round(number, 3) for number in share_of([True, True, True, False], ["a", "a", "b", "b"])]
    [0.75, 0.035, 0.996]
    """
    some = np.asarray(held, dtype=bool)
    if subjects is None or not some.size:
        return share_interval(int(some.sum()), some.size, confidence)
    share = float(some.mean())
    return Estimate(share, *wilson(share, effective_faces(some, subjects, confidence), confidence))


class Coverage(NamedTuple):
    """How often intervals hold, with Wilson's interval, and how wide they are on average."""

    share: Estimate
    width: float
    faces: int


def coverage(
    lower: ArrayLike, upper: ArrayLike, target: ArrayLike, subjects: ArrayLike | None = None
) -> Coverage:
    """Coverage and mean width of one interval a face; bounds count as inside.

    Parameters
    ----------
    lower, upper, target
        (N,).
    subjects
        (N,), for the share's interval: see `share_of`.

    Examples
    --------
    >>> found = coverage([0.0, 5.0], [4.0, 7.0], [4.0, 9.0])
    >>> found.share.point, found.width
    (0.5, 3.0)
    """
    low, high, wanted = aligned(lower, upper, target)
    held = (low <= wanted) & (wanted <= high)
    width = float((high - low).mean()) if wanted.size else np.nan
    return Coverage(share_of(held, subjects), width, wanted.size)


def winkler(lower: ArrayLike, upper: ArrayLike, target: ArrayLike, level: float) -> float:
    """Winkler's interval score: the mean width, and 2 / (1 - level) times what faces lie outside by.

    Lowest for the true quantiles, so that it weighs width against coverage; MAPIE computes it.

    Source: Gneiting and Raftery, Strictly proper scoring rules, JASA 2007, section 6.2.

    Examples
    --------
    >>> round(winkler([0.0, 5.0], [4.0, 7.0], [4.0, 9.0], level=0.9), 6)
    23.0
    """
    from mapie.metrics.regression import regression_mwi_score

    low, high, wanted = aligned(lower, upper, target)
    return float(regression_mwi_score(wanted, np.stack([low, high], axis=1)[..., None], level))


def aligned(*columns: ArrayLike) -> list[FloatArray]:
    """Columns (N,) as float64, or a `ValueError` that gives their shapes."""
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    if any(array.ndim != 1 or array.shape != arrays[0].shape for array in arrays):
        raise ValueError(f"columns of one number a face are needed: shapes {[a.shape for a in arrays]}")
    return arrays


def midpoints(steps: int = STEPS) -> FloatArray:
    """Probabilities in the middles of `steps` equal parts of 0 to 1.

    Examples
    --------
    >>> midpoints(4)
    array([0.125, 0.375, 0.625, 0.875])
    """
    middles: FloatArray = (np.arange(steps) + 0.5) / steps
    return middles


def crps(quantiles: ArrayLike, probabilities: ArrayLike, target: ArrayLike) -> FloatArray:
    """The continuous ranked probability score of each face, in the unit of the target; lower is better.

    Twice the pinball loss, averaged over the probabilities; for a point it is the absolute error.

    Source: Gneiting and Raftery (2007), section 4.2, in the quantile form of Laio and Tamea, 2007.

    Parameters
    ----------
    quantiles
        (N, K): of each face, at the probabilities.
    probabilities
        (K,), evenly spread over 0 to 1 as `midpoints` gives them.
    target
        (N,).

    Examples
    --------
    >>> crps(np.full((1, 4), 3.0), midpoints(4), [5.0])
    array([2.])
    """
    values, p = np.asarray(quantiles, np.float64), np.asarray(probabilities, np.float64)
    error = np.asarray(target, np.float64)[:, None] - values
    scores: FloatArray = 2 * np.maximum(p * error, (p - 1) * error).mean(axis=1)
    return scores


def crps_in_blocks(
    quantiles: Callable[[slice, FloatArray], FloatArray], target: ArrayLike, steps: int = STEPS
) -> FloatArray:
    """`crps` of many faces, whose quantiles are asked for a few thousand faces at a time.

    Parameters
    ----------
    quantiles
        Given rows and probabilities (K,), their quantiles (rows, K).
    target
        (N,).
    """
    wanted, p = np.asarray(target, np.float64), midpoints(steps)
    parts = [slice(start, min(start + ROWS, wanted.size)) for start in range(0, wanted.size, ROWS)]
    return np.concatenate([np.empty(0), *(crps(quantiles(part, p), p, wanted[part]) for part in parts)])


def pit_histogram(pit: ArrayLike, bins: int = 10) -> FloatArray:
    """The share of faces in each part of 0 to 1 that their target's predicted probability falls in.

    The probability integral transform is the predicted distribution function at what was observed: evenly
    spread where predictions are calibrated, U-shaped where they are too sure, a hump where too unsure.

    Source: Dawid, Statistical theory: the prequential approach, 1984.

    Examples
    --------
    >>> pit_histogram([0.05, 0.1, 0.6, 1.0], bins=2)
    array([0.5, 0.5])
    """
    values = np.asarray(pit, dtype=np.float64)
    counts, _ = np.histogram(values, bins=bins, range=(0.0, 1.0))
    return counts / max(1, values.size)
