"""Intervals over subjects: against plain loops, against those over faces, and against what they promise."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.metrics.bias import bias
from pipeline.metrics.calibration import coverage, share_interval, share_of
from pipeline.metrics.clusters import drawn_means, effective_faces, numbered, standard_error, wilson
from pipeline.metrics.distributions import mean_interval
from pipeline.metrics.groups import group_errors
from pipeline.metrics.screening import (
    Sides,
    at_cut,
    cut_at,
    false_negative_rate,
    missed,
    reliability,
    resampled,
)

SUBJECTS, FRAMES = 20, 50
WHO = np.repeat(np.arange(SUBJECTS), FRAMES)
TRIALS = 400


def errors_of_subjects(rng: np.random.Generator, between: float = 5, within: float = 3) -> np.ndarray:
    """Absolute errors of SUBJECTS people in FRAMES pictures each."""
    return np.abs(rng.normal(0, between, SUBJECTS)[WHO] + rng.normal(0, within, WHO.size))


def slow_error(values: np.ndarray, subjects: list[str | None]) -> float:
    """The formula as a plain loop."""
    mean = sum(values) / len(values)
    sums: dict[object, float] = {}
    for row, (value, who) in enumerate(zip(values, subjects, strict=True)):
        owner = ("nobody", row) if who is None else who
        sums[owner] = sums.get(owner, 0.0) + value - mean
    count = len(sums)
    return math.sqrt(count / (count - 1) * sum(one**2 for one in sums.values()) / len(values) ** 2)


def test_a_face_of_unknown_subject_stands_alone() -> None:
    for unknown in (None, np.nan):
        codes = numbered(pd.Series(["b", unknown, "b", "a", unknown], dtype=object), 5)
        assert codes.tolist() == [0, 2, 0, 1, 3]
    with pytest.raises(ValueError, match="2 subjects for 3 faces"):
        numbered(["a", "b"], 3)


def test_the_interval_of_a_mean_is_that_of_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    values = rng.exponential(3, 60)
    subjects = [None if k % 7 == 0 else f"s{k % 11}" for k in range(60)]
    owners = len(set(subjects) - {None}) + subjects.count(None)
    half = stats.t.ppf(0.975, owners - 1) * slow_error(values, subjects)
    found = mean_interval(values, subjects)
    assert found == pytest.approx((values.mean(), values.mean() - half, values.mean() + half))
    assert standard_error(values, subjects).subjects == owners
    gap = np.append(values, np.nan)
    assert mean_interval(gap, [*subjects, "s1"]) == pytest.approx(found), "a face without a value has no say"


def test_of_one_face_a_subject_every_interval_is_that_over_faces() -> None:
    rng = np.random.default_rng(2)
    target = rng.uniform(10, 26, 300)
    prediction = target + rng.normal(0, 3, 300)
    p = np.clip((22 - prediction) / 10, 0, 1)
    errors, held, truth = np.abs(prediction - target), rng.random(300) < 0.8, target < 18
    groups = np.repeat(["a", "b", "c"], 100)
    for subjects in ([None] * 300, [f"s{k}" for k in range(300)], list(range(300))):
        assert mean_interval(errors, subjects) == pytest.approx(mean_interval(errors))
        assert share_of(held, subjects) == pytest.approx(share_interval(int(held.sum()), 300))
        assert effective_faces(held, subjects, 0.95) == pytest.approx(300)
        np.testing.assert_allclose(
            group_errors(prediction, target, groups, subjects)[1:],
            group_errors(prediction, target, groups)[1:],
        )
        for one, other in zip(at_cut(p, truth, 0.4, subjects), at_cut(p, truth, 0.4), strict=True):
            assert one == pytest.approx(other)
        for one, other in zip(reliability(p, truth, 10, subjects), reliability(p, truth, 10), strict=True):
            if 0 < one.observed.point < 1:
                assert one.observed == pytest.approx(other.observed)
        # drawn at random in both ways
        scores = bias(prediction, target, groups, subjects=subjects), bias(prediction, target, groups)
        assert scores[0][:-1] == pytest.approx(scores[1][:-1], rel=0.1, abs=0.02)
        rates = [false_negative_rate(p, truth, 0.1, subjects=who, resamples=2000) for who in (subjects, None)]
        assert rates[0] == pytest.approx(rates[1], abs=0.03)


def test_the_interval_of_an_error_holds_over_subjects_and_fails_over_faces() -> None:
    truth = math.sqrt(34 * 2 / math.pi)
    rng = np.random.default_rng(3)
    over_subjects = over_faces = 0
    for _ in range(TRIALS):
        errors = errors_of_subjects(rng)
        _, low, high = mean_interval(errors, WHO)
        over_subjects += low <= truth <= high
        _, low, high = mean_interval(errors)
        over_faces += low <= truth <= high
    assert 0.92 <= over_subjects / TRIALS <= 0.98
    assert over_faces / TRIALS < 0.5


def test_the_interval_of_a_coverage_holds_over_subjects_and_fails_over_faces() -> None:
    half = 8.0
    truth = math.erf(half / math.sqrt(34 * 2))
    rng = np.random.default_rng(4)
    bound = np.full(WHO.size, half)
    over_subjects = over_faces = 0
    for _ in range(TRIALS):
        error = rng.normal(0, 5, SUBJECTS)[WHO] + rng.normal(0, 3, WHO.size)
        _, low, high = coverage(-bound, bound, error, WHO).share
        over_subjects += low <= truth <= high
        _, low, high = coverage(-bound, bound, error).share
        over_faces += low <= truth <= high
    assert 0.91 <= over_subjects / TRIALS <= 0.99
    assert over_faces / TRIALS < 0.6


@pytest.mark.parametrize("within", [False, True], ids=["groups of subjects", "groups within subjects"])
def test_equal_groups_score_above_chance_as_often_as_it_says(within: bool) -> None:
    rng = np.random.default_rng(5)
    groups = np.arange(WHO.size) % 2 if within else WHO % 2
    above = 0
    for _ in range(TRIALS):
        errors = errors_of_subjects(rng)
        first, second = drawn_means(errors, groups, WHO, 400, rng).T
        chance = np.percentile(np.abs(first - second), 95)
        above += abs(errors[groups == 0].mean() - errors[groups == 1].mean()) > chance
    assert 0.02 <= above / TRIALS <= 0.08


def test_a_bias_score_is_judged_by_subjects() -> None:
    rng = np.random.default_rng(5)
    names = np.array(["a", "b"])[WHO % 2]
    over_subjects, over_faces = [], []
    for trial in range(20):
        errors, nothing = errors_of_subjects(rng), np.zeros(WHO.size)
        found = bias(errors, nothing, names, subjects=WHO, seed=trial, resamples=400)
        assert found.low <= found.score <= found.high
        over_subjects.append(found.score > found.chance)
        other = bias(errors, nothing, names, seed=trial, resamples=400)
        assert other.score == found.score
        over_faces.append(other.score > other.chance)
    assert sum(over_subjects) <= 3
    assert sum(over_faces) >= 10
    alone = bias(errors, nothing, np.where(WHO == 0, "a", "b"), subjects=WHO)
    assert math.isnan(alone.chance), "a group of one subject"


def test_drawn_means_have_the_cluster_robust_spread_and_move_together() -> None:
    rng = np.random.default_rng(6)
    values = errors_of_subjects(rng)
    groups = rng.integers(-1, 3, values.size)  # -1: unknown
    drawn = drawn_means(values, groups, WHO, 40_000, np.random.default_rng(0))
    student = math.sqrt(19 / 17)  # the standard deviation of Student's distribution of 19 degrees of freedom
    for group in range(3):
        here = groups == group
        spread = slow_error(values[here], [str(who) for who in WHO[here]])
        assert drawn[:, group].std() == pytest.approx(student * spread, rel=0.03)
    assert np.corrcoef(drawn.T)[0, 1] > 0.7
    apart = drawn_means(values, WHO % 2, WHO, 40_000, np.random.default_rng(0))
    assert abs(np.corrcoef(apart.T)[0, 1]) < 0.05
    one = np.where(WHO == 0, 0, 1)
    assert np.isnan(drawn_means(values, one, WHO, 5, np.random.default_rng(0))).all(), "a single subject"


def test_resampled_misses_are_those_of_samples_written_out() -> None:
    rng = np.random.default_rng(7)
    p = rng.choice(np.linspace(0, 1, 21), 90)  # with ties
    owners = rng.integers(0, 12, 90)
    truth = rng.random(90) < 0.5
    sides = Sides(p[truth], p[~truth], owners[truth], owners[~truth])
    found = resampled(sides, 0.2, 70, np.random.default_rng(0))
    count = int(owners.max()) + 1
    again = np.random.default_rng(0)
    drawn = np.concatenate([again.integers(count, size=(64, count)), again.integers(count, size=(6, count))])
    for value, sample in zip(found, drawn, strict=True):
        faces = np.concatenate([np.flatnonzero(owners == who) for who in sample])
        under, over = p[faces][truth[faces]], p[faces][~truth[faces]]
        assert value == pytest.approx(float(missed(under, over, 0.2)))
        assert (over > cut_at(over, 0.2)).mean() <= 0.2


def test_the_interval_of_false_negatives_is_over_subjects() -> None:
    rng = np.random.default_rng(8)
    target = np.repeat(rng.uniform(12, 24, 100), 20)
    who = np.repeat(np.arange(100), 20)
    prediction = target + rng.normal(0, 3, 100)[who] + rng.normal(0, 0.5, who.size)
    p, truth = 1 / (1 + np.exp(prediction - 18)), target < 18
    over_faces = false_negative_rate(p, truth, resamples=400)
    over_subjects = false_negative_rate(p, truth, subjects=who, resamples=400)
    assert over_subjects.point == over_faces.point
    assert over_subjects.high - over_subjects.low > 2 * (over_faces.high - over_faces.low)
    again = false_negative_rate(p, truth, subjects=who, resamples=400)
    assert again == over_subjects, "the same seed"
    assert math.isnan(false_negative_rate(p, truth, subjects=truth, resamples=9).low), "one subject a side"


def test_where_nothing_varies_subjects_are_counted() -> None:
    held = np.ones(WHO.size, bool)
    assert share_of(held, WHO) == pytest.approx(share_interval(SUBJECTS, SUBJECTS))
    assert share_of(~held, WHO) == pytest.approx(share_interval(0, SUBJECTS))
    assert effective_faces(WHO < 3, np.zeros(WHO.size), 0.95) == 1.0
    assert math.isnan(mean_interval([1.0, 2.0], ["a", "a"]).low)
    assert math.isnan(share_of([], []).point)


def test_wilsons_interval_is_scipys() -> None:
    for part in (0, 3, 10):
        bounds = stats.binomtest(part, 10).proportion_ci(0.9, method="wilson")
        assert wilson(part / 10, 10, 0.9) == pytest.approx((bounds.low, bounds.high))
