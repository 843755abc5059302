"""How far predictions are from targets: one number for every member of a stack.

Every function takes predictions of shape (N,) for one model or (members, N) for a stack, and targets
of shape (N,) in the same unit. A member with any prediction that is not finite scores NaN: it is never
averaged over the faces it happened to get right.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def checked(prediction: ArrayLike, target: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Predictions (..., N) and targets (N,) as float64, or a `ValueError` that says what does not fit.

    Non-finite members come back as NaN throughout, so that every metric of theirs is NaN.
    """
    predicted = np.asarray(prediction, dtype=np.float64)
    wanted = np.asarray(target, dtype=np.float64)
    if wanted.ndim != 1 or wanted.size == 0:
        raise ValueError(f"targets must be one number a face, at least one: their shape is {wanted.shape}")
    if predicted.ndim not in (1, 2) or predicted.shape[-1] != wanted.size:
        raise ValueError(
            f"predictions of shape {predicted.shape} do not fit {wanted.size} targets: "
            f"({wanted.size},) or (members, {wanted.size}) is needed"
        )
    if not np.isfinite(wanted).all():
        row = int(np.flatnonzero(~np.isfinite(wanted))[0])
        raise ValueError(f"target {row} is {wanted[row]}: targets must be finite")
    finite = np.isfinite(predicted).all(axis=-1, keepdims=True)
    return np.where(finite, predicted, np.nan), wanted


def mae(prediction: ArrayLike, target: ArrayLike) -> FloatArray:
    """Mean absolute error, in the unit of the target.

    Source: Vec2UAge, section 4 (`mae`, `val_mae`, `test_mae`).

    Parameters
    ----------
    prediction
        (N,) or (members, N).
    target
        (N,), finite.

    Returns
    -------
    ndarray
        A scalar, or (members,).

    Examples
    --------
    >>> mae([[3.0, 5.0], [1.0, 5.0]], [1.0, 5.0])
    array([1., 0.])
    """
    predicted, wanted = checked(prediction, target)
    return np.abs(predicted - wanted).mean(axis=-1)  # type: ignore[no-any-return]


def rmse(prediction: ArrayLike, target: ArrayLike) -> FloatArray:
    """Root of the mean squared error, in the unit of the target; shapes as in `mae`.

    Examples
    --------
    >>> float(rmse([1.0, 7.0], [1.0, 5.0])) == 2**0.5
    True
    """
    predicted, wanted = checked(prediction, target)
    return np.sqrt(np.square(predicted - wanted).mean(axis=-1))  # type: ignore[no-any-return]


def pearson(prediction: ArrayLike, target: ArrayLike) -> FloatArray:
    """Pearson's correlation between predictions and targets; shapes as in `mae`.

    NaN where a member's predictions (or the targets) are all the same number: the correlation is not
    defined there.

    Examples
    --------
    >>> pearson([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], [10.0, 20.0, 30.0]).round(6)
    array([ 1., -1.])
    """
    predicted, wanted = checked(prediction, target)
    x = predicted - predicted.mean(axis=-1, keepdims=True)
    y = wanted - wanted.mean()
    scale = np.sqrt(np.square(x).sum(axis=-1) * np.square(y).sum())
    # A constant has a spread of rounding noise only, whose direction means nothing.
    constant = (np.ptp(predicted, axis=-1) == 0) | (np.ptp(wanted) == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation: FloatArray = np.where(constant, np.nan, (x * y).sum(axis=-1) / scale)
    return correlation.clip(-1, 1)[()]


def cumulative_score(prediction: ArrayLike, target: ArrayLike, years: float = 5) -> FloatArray:
    """The share of faces whose error is at most `years`, between 0 and 1; shapes as in `mae`.

    Examples
    --------
    >>> float(cumulative_score([10.0, 10.0, 10.0, 10.0], [10.0, 15.0, 16.0, 4.0]))
    0.5
    """
    if not years >= 0:
        raise ValueError(f"years is {years}: an error is never negative")
    predicted, wanted = checked(prediction, target)
    within = (np.abs(predicted - wanted) <= years).mean(axis=-1)
    return np.where(np.isnan(predicted).any(axis=-1), np.nan, within)[()]


class PrecisionRecall(NamedTuple):
    """Precision and recall of one yes-or-no question, a scalar or (members,) each."""

    precision: FloatArray
    recall: FloatArray


def precision_recall_under(prediction: ArrayLike, target: ArrayLike, threshold: float) -> PrecisionRecall:
    """Precision and recall of the answer 'under `threshold`'; shapes as in `mae`.

    Precision: of the faces called under the threshold, the share that is. Recall: of the faces that
    are, the share that was called so. NaN where there is nothing to take a share of.

    Examples
    --------
    >>> precision, recall = precision_recall_under([17.0, 16.0, 20.0], [15.0, 19.0, 17.5], threshold=18)
    >>> float(precision), float(recall)
    (0.5, 0.5)
    """
    predicted, wanted = checked(prediction, target)
    called = predicted < threshold
    true = wanted < threshold
    hits = (called & true).sum(axis=-1)
    broken = np.isnan(predicted).any(axis=-1)
    return PrecisionRecall(share(hits, called.sum(axis=-1), broken), share(hits, true.sum(), broken))


def share(part: Any, whole: Any, broken: Any) -> FloatArray:
    """Part divided by whole, NaN where the whole is nothing or the member is broken."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: FloatArray = np.where(broken | (whole == 0), np.nan, np.divide(part, whole))
    return ratio[()]


class ErrorPerTarget(NamedTuple):
    """The error at each value of the target: `values` (K,), `counts` (K,), `errors` (K,) or (members, K)."""

    values: FloatArray
    counts: NDArray[np.int64]
    errors: FloatArray


def error_per_target(prediction: ArrayLike, target: ArrayLike, width: float = 1) -> ErrorPerTarget:
    """Mean absolute error for each age (or other target), as in Figure 9.

    Source: Vec2UAge, section 4.4, equation 3 (there called MAD).

    Parameters
    ----------
    prediction, target
        As in `mae`.
    width
        Targets are binned to the nearest multiple of this; only bins with a face in them are returned.

    Examples
    --------
    >>> per_age = error_per_target([4.0, 6.0, 9.0], [5.0, 5.0, 7.0])
    >>> per_age.values, per_age.counts, per_age.errors
    (array([5., 7.]), array([2, 1]), array([1., 2.]))
    """
    if not width > 0:
        raise ValueError(f"width is {width}: bins need a width above 0")
    predicted, wanted = checked(prediction, target)
    # Halves go up, not to the even neighbour: round(0.5) and round(1.5) must not share a bin.
    bins = np.floor(wanted / width + 0.5)
    order = np.argsort(bins, kind="stable")
    values, starts, counts = np.unique(bins[order], return_index=True, return_counts=True)
    errors = np.abs(predicted - wanted)[..., order]
    return ErrorPerTarget(values * width, counts, np.add.reduceat(errors, starts, axis=-1) / counts)
