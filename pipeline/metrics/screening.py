"""'Is this person under 18?' answered by a probability: how well it ranks, and how far it can be believed.

Positive means under the threshold. A false negative is a minor taken for an adult, a false positive an
adult taken for a minor.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from pipeline.metrics.calibration import share_of
from pipeline.metrics.clusters import Integers, numbered
from pipeline.metrics.distributions import CONFIDENCE, RESAMPLES, Estimate

FloatArray = NDArray[np.float64]
BATCH = 64  # resamples drawn at once: 64 of 10,000 faces are 5 MB


def split_by_truth(probability: ArrayLike, truth: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """The probabilities of the faces that are under the threshold, and of those that are not.

    Raises
    ------
    ValueError
        For columns of different lengths.
    """
    p, positive = np.asarray(probability, dtype=np.float64), np.asarray(truth, dtype=bool)
    if p.shape != positive.shape or p.ndim != 1:
        raise ValueError(f"probabilities of shape {p.shape} do not fit truths of shape {positive.shape}")
    return p[positive], p[~positive]


def brier(probability: ArrayLike, truth: ArrayLike) -> float:
    """The Brier score: the mean squared error of a probability, 0 at best.

    Examples
    --------
    >>> round(brier([0.8, 0.4], [True, False]), 3)
    0.1
    """
    return float(brier_score_loss(np.asarray(truth, dtype=bool), np.asarray(probability)))


class Ranking(NamedTuple):
    """Areas under the ROC curve and the precision-recall curve; NaN where one of the two kinds is missing."""

    roc_auc: float
    average_precision: float


def ranking(probability: ArrayLike, truth: ArrayLike) -> Ranking:
    """How well the probability puts those under the threshold before the others.

    Examples
    --------
    >>> ranking([0.9, 0.6, 0.7, 0.1], [True, True, False, False])
    Ranking(roc_auc=0.75, average_precision=0.8333333333333333)
    """
    under, over = split_by_truth(probability, truth)
    if not (under.size and over.size):
        return Ranking(np.nan, np.nan)
    labels, p = np.asarray(truth, dtype=bool), np.asarray(probability)
    return Ranking(float(roc_auc_score(labels, p)), float(average_precision_score(labels, p)))


class Curve(NamedTuple):
    """Points of a curve, (K,) each."""

    x: FloatArray
    y: FloatArray


def roc(probability: ArrayLike, truth: ArrayLike) -> Curve:
    """The ROC curve: false-positive rate, true-positive rate."""
    false, true, _ = roc_curve(np.asarray(truth, dtype=bool), np.asarray(probability))
    return Curve(false, true)


def precision_recall(probability: ArrayLike, truth: ArrayLike) -> Curve:
    """The precision-recall curve: recall, precision."""
    precision, recall, _ = precision_recall_curve(np.asarray(truth, dtype=bool), np.asarray(probability))
    return Curve(recall[::-1], precision[::-1])


class Reliable(NamedTuple):
    """One bin of a reliability diagram: mean stated probability, observed share, faces."""

    stated: float
    observed: Estimate
    faces: int


def reliability(
    probability: ArrayLike, truth: ArrayLike, bins: int = 10, subjects: ArrayLike | None = None
) -> list[Reliable]:
    """Stated probability against observed share, in bins of equal width; empty bins are left out.

    Where `subjects` (N,) are known, the share's interval is over them: see `share_of`.

    Not scikit-learn's `calibration_curve`, which gives no counts, without which no interval can be drawn.

    Examples
    --------
    >>> [(round(r.stated, 2), r.observed.point, r.faces) for r in reliability([0.1, 0.9, 1.0], [0, 1, 1], 2)]
    [(0.1, 0.0, 1), (0.95, 1.0, 2)]
    """
    p, positive = np.asarray(probability, dtype=np.float64), np.asarray(truth, dtype=bool)
    bin_of = np.clip((p * bins).astype(np.int64), 0, bins - 1)
    owners = None if subjects is None else numbered(subjects, p.size)
    return [
        Reliable(
            float(p[here].mean()),
            share_of(positive[here], None if owners is None else owners[here]),
            int(here.sum()),
        )
        for here in (bin_of == number for number in range(bins))
        if here.any()
    ]


def cut_at(over: FloatArray, rate: float, axis: int = -1) -> Any:
    """The smallest probability that at most a share `rate` of those not under the threshold exceeds.

    A face is called under the threshold if its probability is *above* the cut.

    Examples
    --------
    >>> float(cut_at(np.array([0.1, 0.2, 0.3, 0.9]), rate=0.25))
    0.3
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate is {rate}: a false-positive rate is at least 0 and below 1")
    count = over.shape[axis]
    allowed = int(np.floor(rate * count + 1e-9))
    place = count - 1 - allowed
    return np.take(np.partition(over, place, axis=axis), place, axis=axis)


def missed(under: FloatArray, over: FloatArray, rate: float, axis: int = -1) -> Any:
    """The false-negative rate at the cut of a false-positive rate, over arrays of any leading shape."""
    return (under <= np.expand_dims(cut_at(over, rate, axis), axis)).mean(axis=axis)


def false_negative_rate(
    probability: ArrayLike,
    truth: ArrayLike,
    rate: float = 0.05,
    *,
    subjects: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """The false-negative rate where at most `rate` of the others are called under the threshold.

    The cut is taken from these same faces, as on their ROC curve; the interval is a percentile bootstrap
    in which minors and adults are drawn apart, and the cut is found again in every resample. Where it is
    known whom faces show, whole subjects are drawn instead, of whom one may be both minor and adult.

    Parameters
    ----------
    probability, truth
        (N,): of being under the threshold, and whether the face is.
    rate
        The false-positive rate allowed.
    subjects
        (N,), None where unknown.
    seed, resamples, confidence
        Of the bootstrap.

    Examples
    --------
    >>> false_negative_rate([0.9, 0.2, 0.3, 0.1], [True, True, False, False], 0.4, resamples=9).point
    0.5
    """
    under, over = split_by_truth(probability, truth)
    if not (under.size and over.size):
        return Estimate(np.nan, np.nan, np.nan)
    point = float(missed(under, over, rate))
    if min(under.size, over.size) < 2:
        return Estimate(point, np.nan, np.nan)
    if subjects is not None:
        positive = np.asarray(truth, dtype=bool)
        owners = numbered(subjects, positive.size)
        if min(np.unique(owners[positive]).size, np.unique(owners[~positive]).size) < 2:
            return Estimate(point, np.nan, np.nan)
        sides = Sides(under, over, owners[positive], owners[~positive])
        found = resampled(sides, rate, resamples, np.random.default_rng(seed))
        tail = 100 * (1 - confidence) / 2
        low, high = np.nanpercentile(found, [tail, 100 - tail])
        return Estimate(point, float(low), float(high))
    interval = stats.bootstrap(
        (under, over),
        lambda one, other, axis=-1: missed(one, other, rate, axis),
        n_resamples=resamples,
        batch=BATCH,
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(point, float(interval.low), float(interval.high))


class Sides(NamedTuple):
    """Probabilities of faces under the threshold and of the others, and the numbers of their subjects."""

    under: FloatArray
    over: FloatArray
    under_owners: Integers
    over_owners: Integers


def resampled(sides: Sides, rate: float, resamples: int, rng: np.random.Generator) -> FloatArray:
    """`missed` in samples of as many subjects, drawn with replacement, each with all its faces.

    NaN where a sample has faces on one side alone.
    """
    count = 1 + int(max(sides.under_owners.max(), sides.over_owners.max()))
    order = np.argsort(-sides.over, kind="stable")
    over, over_owners = sides.over[order], sides.over_owners[order]
    found = []
    for start in range(0, resamples, BATCH):
        size = min(BATCH, resamples - start)
        drawn = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        above = np.cumsum(times[:, over_owners], axis=1)  # faces drawn down to each, the highest first
        allowed = np.floor(rate * above[:, -1:] + 1e-9)
        cut = over[(above > allowed).argmax(axis=1)]
        weight = times[:, sides.under_owners]
        lost, whole = (weight * (sides.under <= cut[:, None])).sum(axis=1), weight.sum(axis=1)
        usable = (whole > 0) & (above[:, -1] > 0)
        found.append(np.where(usable, lost / np.maximum(whole, 1), np.nan))
    return np.concatenate(found)


class Operating(NamedTuple):
    """What a cut fixed beforehand does on other faces: both error rates with Wilson's intervals."""

    cut: float
    false_negatives: Estimate
    false_positives: Estimate


def at_cut(
    probability: ArrayLike, truth: ArrayLike, cut: float, subjects: ArrayLike | None = None
) -> Operating:
    """The error rates when faces with a probability above `cut` are called under the threshold.

    Choose the cut on validation faces (`cut_at`), and this says what it does on test faces. Where `subjects`
    (N,) are known, intervals are over them: see `share_of`.

    Examples
    --------
    >>> found = at_cut([0.9, 0.2, 0.3, 0.1], [True, True, False, False], cut=0.25)
    >>> found.false_negatives.point, found.false_positives.point
    (0.5, 0.5)
    """
    under, over = split_by_truth(probability, truth)
    positive = np.asarray(truth, dtype=bool)
    owners = None if subjects is None else numbered(subjects, positive.size)
    return Operating(
        float(cut),
        share_of(under <= cut, None if owners is None else owners[positive]),
        share_of(over > cut, None if owners is None else owners[~positive]),
    )
