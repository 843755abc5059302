import random
import statistics

import numpy as np
import pytest
from rliable import metrics

from pipeline.metrics.distributions import (
    Estimate,
    best_members,
    describe,
    ensemble,
    estimate,
    interquartile_mean,
    mean_interval,
    probability_of_improvement,
    share_better,
)

# Vec2UAge, Table 4 (SWA, fixed rate) and Table 5 (SGD, rate from the finder).
SWA_VAL = (
    "2.43 2.71 2.51 2.67 2.52 2.65 2.71 2.53 2.57 2.49 2.51 2.48 2.60 2.56 2.67 2.70 2.46 2.48 2.56 2.55"
)
SWA_TEST = (
    "2.50 2.48 2.46 2.48 2.54 2.47 2.45 2.50 2.54 2.47 2.42 2.44 2.44 2.51 2.53 2.47 2.51 2.39 2.49 2.51"
)
SGD_VAL = (
    "2.36 2.46 2.46 2.44 2.47 2.44 2.39 2.44 2.45 2.39 2.44 2.42 2.41 2.43 2.42 2.44 2.41 2.44 2.37 2.42"
)
SGD_TEST = (
    "2.52 2.36 2.45 2.36 2.37 2.42 2.44 2.38 2.41 2.40 2.42 2.46 2.42 2.39 2.46 2.40 2.44 2.44 2.48 2.50"
)


def numbers(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


def slow_bootstrap(statistic, strata, resamples, paired=False, seed=0):
    """Percentiles of a statistic over resamples drawn one by one with Python's own generator."""
    rng = random.Random(seed)
    found = []
    for _ in range(resamples):
        if paired:
            rows = rng.choices(range(len(strata[0])), k=len(strata[0]))
            drawn = [[stratum[row] for row in rows] for stratum in strata]
        else:
            drawn = [rng.choices(list(stratum), k=len(stratum)) for stratum in strata]
        found.append(statistic(*drawn))
    return np.quantile(found, [0.025, 0.975])


def slow_iqm(*strata):
    pooled = sorted(value for stratum in strata for value in stratum)
    cut = len(pooled) // 4
    return statistics.fmean(pooled[cut : len(pooled) - cut])


@pytest.mark.parametrize(
    ("scores", "minimum", "mean", "std"),
    [
        (SWA_VAL, 2.43, 2.57, 0.09),
        (SWA_TEST, 2.39, 2.48, 0.04),
        (SGD_VAL, 2.36, 2.43, 0.03),
        (SGD_TEST, 2.36, 2.43, 0.05),
    ],
)
def test_gives_the_papers_statistics_for_the_papers_seeds(scores, minimum, mean, std):
    found = describe(numbers(scores), resamples=10)
    # The paper computed them before it rounded its seeds to two digits; 0.05 is 0.045 by its Table 5.
    assert found.min == minimum
    assert found.mean == pytest.approx(mean, abs=0.0051)
    assert found.std == pytest.approx(std, abs=0.006)


def test_describes_like_the_statistics_module():
    scores = np.random.default_rng(3).gamma(4, 1, 19)
    found = describe(scores, resamples=10)
    assert found.std == pytest.approx(statistics.stdev(scores))
    assert found.median == pytest.approx(statistics.median(scores))
    assert found.mean == pytest.approx(statistics.fmean(scores))
    assert found.iqm.point == pytest.approx(slow_iqm(scores))
    assert (found.members, found.diverged, found.max) == (19, 0, scores.max())


def test_diverged_members_are_counted_and_change_no_statistic():
    scores = np.array([3.0, 1.0, 2.0, 5.0])
    whole = describe(scores, seed=4, resamples=200)
    holed = describe([3.0, np.nan, 1.0, 2.0, np.inf, 5.0], seed=4, resamples=200)
    assert (holed.members, holed.diverged) == (4, 2)
    assert (holed.mean, holed.std, holed.iqm) == (whole.mean, whole.std, whole.iqm)


def test_describes_one_member_and_none():
    one = describe([2.0, np.nan])
    assert (one.members, one.mean, one.median, one.iqm.point) == (1, 2.0, 2.0, 2.0)
    assert np.isnan([one.std, one.iqm.low, one.iqm.high]).all()
    none = describe([np.nan, np.nan])
    assert (none.members, none.diverged) == (0, 2)
    assert np.isnan([none.min, none.mean, none.std, *none.iqm]).all()


@pytest.mark.parametrize("count", [1, 3, 4, 5, 20, 21])
def test_interquartile_mean_equals_rliable(count):
    scores = np.random.default_rng(count).normal(size=count)
    assert interquartile_mean(scores) == pytest.approx(metrics.aggregate_iqm(scores[:, None]), rel=1e-12)


def test_interquartile_mean_pools_strata_as_rliable_pools_tasks():
    scores = np.random.default_rng(0).normal(size=(10, 3)) + [0, 5, 20]
    assert interquartile_mean(*scores.T) == pytest.approx(metrics.aggregate_iqm(scores), rel=1e-12)


def test_interval_equals_a_bootstrap_drawn_one_by_one():
    scores = numbers(SWA_VAL)
    found = estimate(scores, seed=1)
    low, high = slow_bootstrap(slow_iqm, [scores], 4000)
    width = high - low
    assert found.low == pytest.approx(low, abs=0.06 * width)
    assert found.high == pytest.approx(high, abs=0.06 * width)


def test_stratified_interval_equals_a_bootstrap_drawn_one_by_one():
    scores = np.random.default_rng(8).normal(size=(12, 2)) + [0, 3]
    found = estimate(*scores.T, seed=1)
    low, high = slow_bootstrap(slow_iqm, list(scores.T), 4000)
    assert found.low == pytest.approx(low, abs=0.06 * (high - low))
    assert found.high == pytest.approx(high, abs=0.06 * (high - low))


def test_strata_are_resampled_apart():
    # Were they pooled, resamples would differ in how many of each they hold.
    constant = estimate([1.0] * 10, [9.0] * 10, resamples=500)
    assert constant == Estimate(5.0, 5.0, 5.0)


def test_strata_may_differ_in_length_where_members_diverged():
    assert estimate([1.0, np.nan, 1.0], [3.0, 3.0], resamples=50).point == 2.0


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    scores = np.random.default_rng(2).normal(size=15)
    state = np.random.get_state()[1].copy()
    assert estimate(scores, seed=7, resamples=300) == estimate(scores, seed=7, resamples=300)
    assert estimate(scores, seed=7, resamples=300) != estimate(scores, seed=8, resamples=300)
    np.testing.assert_array_equal(np.random.get_state()[1], state, "numpy's global generator was used")


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(11)
    hits = 0
    for trial in range(200):
        found = estimate(
            rng.normal(size=40), statistic=lambda x, axis: x.mean(axis=axis), seed=trial, resamples=400
        )
        hits += found.low <= 0 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_probability_of_improvement_is_the_share_of_seeds_that_win():
    first, second = numbers(SWA_TEST), numbers(SWA_VAL)
    wins = sum((a < b) + 0.5 * (a == b) for a, b in zip(first, second, strict=True)) / 20
    found = probability_of_improvement(first, second)
    assert found.point == wins
    low, high = slow_bootstrap(
        lambda a, b: float(share_better(np.array(a), np.array(b))), [first, second], 4000, True
    )
    assert found.low == pytest.approx(low, abs=0.051), "one seed in twenty is a step of 0.05"
    assert found.high == pytest.approx(high, abs=0.051)


def test_probability_of_improvement_of_both_directions_adds_up_to_one():
    first, second = np.array([1.0, 2.0, 2.0, 5.0]), np.array([2.0, 2.0, 1.0, 6.0])
    there = probability_of_improvement(first, second, resamples=50).point
    back = probability_of_improvement(second, first, resamples=50).point
    assert (there, back) == (0.625, 0.375)


def test_probability_of_improvement_pairs_by_seed():
    # Unpaired, the probability would be near one half: the seeds differ far more than the methods.
    first = np.linspace(1, 100, 20)
    assert probability_of_improvement(first, first + 0.01) == Estimate(1.0, 1.0, 1.0)


def test_a_seed_that_diverged_on_one_side_is_left_out_of_the_pairs():
    assert probability_of_improvement([1.0, np.nan, 3.0], [2.0, 0.0, 4.0], resamples=50).point == 1.0
    assert np.isnan(probability_of_improvement([np.nan, 1.0], [1.0, np.nan]).point)


def test_refuses_scores_that_cannot_be_paired():
    with pytest.raises(ValueError, match="3 and 2 scores cannot be paired"):
        probability_of_improvement([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="one number a member"):
        describe([[1.0, 2.0]])


def test_best_members_never_include_a_diverged_one_and_keep_order_in_ties():
    scores = [2.0, np.nan, 1.0, 2.0, np.inf]
    np.testing.assert_array_equal(best_members(scores, 5), [2, 0, 3])
    assert best_members([np.nan]).size == 0


def test_ensemble_is_the_mean_of_the_chosen_members():
    predictions = np.random.default_rng(1).normal(size=(6, 9))
    np.testing.assert_allclose(ensemble(predictions, [4, 1]), (predictions[4] + predictions[1]) / 2)
    np.testing.assert_allclose(ensemble(predictions), sum(predictions) / 6)


def test_ensemble_of_nobody_is_refused():
    with pytest.raises(ValueError, match="did not diverge"):
        ensemble([[np.nan, 1.0]])
    with pytest.raises(ValueError, match="members, N"):
        ensemble([1.0, 2.0])


def test_mean_interval_is_students():
    values = np.random.default_rng(5).normal(3, 2, 12)
    half = 2.200985160 * statistics.stdev(values) / 12**0.5  # t(0.975, 11)
    assert mean_interval(values) == pytest.approx((values.mean(), values.mean() - half, values.mean() + half))
    assert np.isnan(mean_interval([1.0]).low)
    assert np.isnan(mean_interval([np.nan]).point)
