"""'Under 18' measures against scikit-learn and plain loops."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from pipeline.metrics.screening import (
    at_cut,
    brier,
    cut_at,
    false_negative_rate,
    precision_recall,
    ranking,
    reliability,
    roc,
    split_by_truth,
)


def faces(count: int = 600, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.3
    probability = 1 / (1 + np.exp(-(2.5 * truth - 1.5 + rng.normal(size=count))))
    return np.round(probability, 2), truth  # rounded, so that there are ties


def slow_missed(p: np.ndarray, truth: np.ndarray, rate: float) -> float:
    """Try every cut and keep the best that is allowed."""
    best = 1.0
    for cut in [-1.0, *np.unique(p)]:
        called = p > cut
        if called[~truth].mean() <= rate:
            best = min(best, (~called)[truth].mean())
    return float(best)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05, 0.2, 0.999])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_false_negative_rate_is_the_best_that_the_false_positive_rate_allows(
    rate: float, seed: int
) -> None:
    p, truth = faces(seed=seed)
    found = false_negative_rate(p, truth, rate, resamples=200).point
    assert found == pytest.approx(slow_missed(p, truth, rate))
    false, true, _ = roc_curve(truth, p, drop_intermediate=False)
    assert found == pytest.approx(1 - true[false <= rate].max())


def test_its_interval_covers_the_truth_and_narrows_with_faces() -> None:
    large = false_negative_rate(*faces(60_000, seed=9), 0.05, resamples=50)
    small = false_negative_rate(*faces(1500, seed=5), 0.05, resamples=500)
    assert small.low < large.point < small.high
    assert large.high - large.low < (small.high - small.low) / 3
    assert small == false_negative_rate(*faces(1500, seed=5), 0.05, resamples=500), "the same seed"


def test_where_one_kind_is_missing_nothing_is_claimed() -> None:
    for truth in (np.zeros(3, bool), np.ones(3, bool)):
        assert math.isnan(false_negative_rate(np.full(3, 0.5), truth).point)
        assert math.isnan(ranking(np.full(3, 0.5), truth).roc_auc)
    assert math.isnan(at_cut([0.5], [True], 0.2).false_positives.point)


def test_the_cut_lets_no_more_than_the_rate_through() -> None:
    over = np.array([0.1, 0.5, 0.5, 0.5, 0.9])
    for rate, cut in ((0.0, 0.9), (0.2, 0.5), (0.6, 0.5), (0.8, 0.1)):
        assert cut_at(over, rate) == cut
        assert (over > cut).mean() <= rate
    np.testing.assert_array_equal(cut_at(np.stack([over, over + 1]), 0.2), [0.5, 1.5])


@pytest.mark.parametrize("rate", [-0.1, 1.0, math.nan])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="a false-positive rate is at least 0 and below 1"):
        cut_at(np.array([0.1]), rate)


def test_error_rates_at_a_fixed_cut_with_their_intervals() -> None:
    p, truth = faces()
    found = at_cut(p, truth, 0.4)
    assert found.false_negatives.point == (p[truth] <= 0.4).mean()
    assert found.false_positives.point == (p[~truth] > 0.4).mean()
    assert found.false_negatives.low < found.false_negatives.point < found.false_negatives.high


def test_brier_and_areas_are_those_of_plain_loops() -> None:
    p, truth = faces(200)
    assert brier(p, truth) == pytest.approx(np.mean([(q - y) ** 2 for q, y in zip(p, truth, strict=True)]))
    pairs = [(a > b) + 0.5 * (a == b) for a in p[truth] for b in p[~truth]]
    assert ranking(p, truth).roc_auc == pytest.approx(np.mean(pairs))
    curve = roc(p, truth)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(ranking(p, truth).roc_auc)
    recall, precision = precision_recall(p, truth)
    assert (recall[0], recall[-1], precision[0]) == (0, 1, 1)
    assert np.sum(np.diff(recall) * precision[1:]) == pytest.approx(ranking(p, truth).average_precision)


def test_reliability_bins_hold_every_face_once() -> None:
    p, truth = faces()
    bins = reliability(p, truth)
    assert sum(one.faces for one in bins) == len(p)
    for one in bins:
        here = (np.floor(np.minimum(p, 0.999) * 10) / 10 <= one.stated) & (
            one.stated <= np.floor(np.minimum(p, 0.999) * 10) / 10 + 0.1
        )
        assert one.observed.point == pytest.approx(truth[here].mean())
    assert reliability([1.0, 1.0], [True, False])[0].observed.point == 0.5


def test_columns_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2,\) do not fit truths of shape \(1,\)"):
        split_by_truth([0.1, 0.2], [True])
