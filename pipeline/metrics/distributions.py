"""The error as a distribution over seeds: statistics, intervals, comparisons, choices, ensembles.

Scores are errors (lower is better), one a member; a member that diverged is NaN. It is kept out of
every statistic and counted. Intervals are percentile bootstraps over seeds: they say how far a number
would move with other seeds, on the same faces.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pipeline.metrics.clusters import standard_error

FloatArray = NDArray[np.float64]
Statistic = Callable[..., Any]

RESAMPLES = 10_000
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A number with its confidence interval; NaN bounds where one score is too few to resample."""

    point: float
    low: float
    high: float


@dataclass(frozen=True)
class Description:
    """Statistics of one distribution of errors, in the unit of the target.

    `std` is the sample standard deviation (ddof 1), NaN below two members. `members` counts those that
    ended well, `diverged` those that did not.
    """

    members: int
    diverged: int
    min: float
    mean: float
    std: float
    median: float
    max: float
    iqm: Estimate


def scored(scores: ArrayLike) -> FloatArray:
    """One distribution as float64 (members,), checked."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"scores must be one number a member, at least one: their shape is {values.shape}")
    return values


def kept(scores: ArrayLike) -> FloatArray:
    """The scores of the members that did not diverge."""
    values = scored(scores)
    return values[np.isfinite(values)]


def interquartile_mean(*strata: FloatArray, axis: int = -1) -> FloatArray:
    """The mean of the middle half of all scores, pooled over strata.

    Source: Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice"
    (NeurIPS 2021), section 4.3. Robust to a few bad seeds as the median is, and steadier.

    Examples
    --------
    >>> float(interquartile_mean([1.0, 2.0, 4.0, 100.0]))
    3.0
    """
    return stats.trim_mean(np.concatenate(strata, axis=axis), 0.25, axis=axis)  # type: ignore[no-any-return]


def estimate(
    *strata: ArrayLike,
    statistic: Statistic = interquartile_mean,
    paired: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """A statistic of scores and its stratified-bootstrap percentile interval.

    Parameters
    ----------
    strata
        One array of scores for each stratum (an optimiser, say), NaN where a member diverged. Each is
        resampled by itself, so that every resample holds as many seeds of each as there are.
    statistic
        Called as `statistic(*strata, axis=-1)`, over arrays of any leading shape.
    paired
        Resample the same positions in every stratum: for scores that belong together seed by seed. A
        seed that diverged in one stratum is then left out of all.
    seed
        Of the resampling; the same seed gives the same interval.

    Examples
    --------
    >>> estimate([5.1, 5.2, 5.3, 5.2], resamples=1000)
    Estimate(point=5.2, low=5.1, high=5.3)
    """
    if paired:
        together = np.stack([scored(stratum) for stratum in strata])
        samples = list(together[:, np.isfinite(together).all(axis=0)])
    else:
        samples = [kept(stratum) for stratum in strata]
    if min(sample.size for sample in samples) == 0:
        return Estimate(np.nan, np.nan, np.nan)
    point = float(statistic(*samples, axis=-1))
    if min(sample.size for sample in samples) == 1:
        return Estimate(point, np.nan, np.nan)
    interval = stats.bootstrap(
        samples,
        statistic,
        n_resamples=resamples,
        vectorized=True,
        paired=paired,
        axis=-1,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(point, float(interval.low), float(interval.high))


def mean_interval(
    values: ArrayLike, subjects: ArrayLike | None = None, *, confidence: float = CONFIDENCE
) -> Estimate:
    """The mean of many values, such as one error a face, with Student's interval.

    Says how far the mean would move with other faces or, where it is known whom they show, with other
    subjects; over seeds, of which there are few, use `estimate`.

    Parameters
    ----------
    values
        (N,), NaN where there is none.
    subjects
        (N,), whom each face shows, None where unknown: then the variance is cluster-robust, with one degree
        of freedom fewer than there are subjects. See `standard_error`.

    Examples
    --------
    >>> [round(number, 3) for number in mean_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    >>> [round(number, 3) for number in mean_interval([1.0, 2.0, 3.0], ["ann", "ann", "bob"])]
    [2.0, -6.471, 10.471]
    """
    sample = kept(values)
    if sample.size == 0:
        return Estimate(np.nan, np.nan, np.nan)
    mean = float(sample.mean())
    if sample.size == 1:
        return Estimate(mean, np.nan, np.nan)
    if subjects is None:
        error, count = stats.sem(sample), sample.size
    else:
        owners = np.asarray(subjects)[np.isfinite(scored(values))]
        error, count = standard_error(sample, owners)
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1) * error)
    return Estimate(mean, mean - half, mean + half)


def describe(scores: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Description:
    """The statistics of one distribution; all NaN if every member diverged.

    Source: Vec2UAge, Tables 2 and 3 (min, mean, std); the rest goes beyond it.

    Examples
    --------
    >>> d = describe([2.0, 4.0, float("nan")])
    >>> d.members, d.diverged, d.min, d.mean, round(d.std, 4), d.median
    (2, 1, 2.0, 3.0, 1.4142, 3.0)
    """
    good = kept(scores)
    diverged = scored(scores).size - good.size
    if good.size == 0:
        nothing = Estimate(np.nan, np.nan, np.nan)
        return Description(0, diverged, np.nan, np.nan, np.nan, np.nan, np.nan, nothing)
    return Description(
        members=good.size,
        diverged=diverged,
        min=float(good.min()),
        mean=float(good.mean()),
        std=float(good.std(ddof=1)) if good.size > 1 else np.nan,
        median=float(np.median(good)),
        max=float(good.max()),
        iqm=estimate(good, seed=seed, resamples=resamples),
    )


def share_better(first: FloatArray, second: FloatArray, axis: int = -1) -> FloatArray:
    """The share of positions at which the first error is below the second; a tie counts half."""
    return ((first < second) + 0.5 * (first == second)).mean(axis=axis)  # type: ignore[no-any-return]


def probability_of_improvement(
    first: ArrayLike, second: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """How probably the first method has the lower error than the second when both use the same seed.

    Source: Agarwal et al. (2021), section 4.4, paired by seed: the members at one position share
    initial weights and batch order, so that only the method differs.

    Parameters
    ----------
    first, second
        Errors (members,), the same seeds in the same order.

    Examples
    --------
    >>> probability_of_improvement([1.0, 2.0, 3.0], [2.0, 3.0, 2.0], resamples=100).point
    0.6666666666666666
    """
    if scored(first).size != scored(second).size:
        raise ValueError(
            f"{scored(first).size} and {scored(second).size} scores cannot be paired by seed: "
            "both methods need the same seeds in the same order"
        )
    return estimate(first, second, statistic=share_better, paired=True, seed=seed, resamples=resamples)


def best_members(scores: ArrayLike, count: int = 1) -> NDArray[np.intp]:
    """Positions of the members with the lowest errors, best first; ties in the order of members.

    To choose a model pass validation errors. Passing test errors, as the paper does, is optimistic: the
    test faces then take part in the choice. Diverged members are never chosen.

    Examples
    --------
    >>> best_members([3.0, 1.0, float("nan"), 2.0], count=2)
    array([1, 3])
    """
    values = scored(scores)
    order = np.argsort(values, kind="stable")
    return order[: min(count, int(np.isfinite(values).sum()))]


def ensemble(predictions: ArrayLike, members: ArrayLike | None = None) -> FloatArray:
    """The mean prediction (N,) of some members, by position, or of all that did not diverge.

    Examples
    --------
    >>> ensemble([[1.0, 4.0], [3.0, 6.0], [9.0, float("nan")]])
    array([2., 5.])
    """
    stack = np.asarray(predictions, dtype=np.float64)
    if stack.ndim != 2:
        raise ValueError(f"an ensemble needs predictions (members, N): their shape is {stack.shape}")
    if members is not None:
        stack = stack[np.asarray(members, dtype=np.intp)]
    stack = stack[np.isfinite(stack).all(axis=1)]
    if not len(stack):
        raise ValueError("an ensemble needs a member that did not diverge: there is none")
    return stack.mean(axis=0)  # type: ignore[no-any-return]
