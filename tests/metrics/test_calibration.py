"""Calibration measures against closed forms, integrals, MAPIE and plain loops."""

import math

import numpy as np
import pytest
from mapie.regression import SplitConformalRegressor
from scipy import stats
from sklearn.dummy import DummyRegressor

from pipeline.metrics.calibration import (
    aligned,
    conformal_quantile,
    coverage,
    crps,
    crps_in_blocks,
    faces_needed,
    midpoints,
    pit_histogram,
    share_interval,
    winkler,
)

LEVELS = (0.5, 0.8, 0.9, 0.95)


@pytest.mark.parametrize("faces", [20, 21, 39, 100, 333])
def test_the_conformal_quantile_is_that_of_mapie(faces: int) -> None:
    rng = np.random.default_rng(faces)
    residuals = rng.standard_t(3, faces)
    constant = DummyRegressor(strategy="constant", constant=0.0).fit([[0.0]], [0.0])
    mapie = SplitConformalRegressor(constant, confidence_level=list(LEVELS), prefit=True)
    mapie.conformalize(np.zeros((faces, 1)), residuals)
    _, intervals = mapie.predict_interval(np.zeros((1, 1)))
    expected = [conformal_quantile(np.abs(residuals), level) for level in LEVELS]
    np.testing.assert_allclose(intervals[0, 1], expected, rtol=1e-12)
    np.testing.assert_allclose(intervals[0, 0], -np.asarray(expected), rtol=1e-12)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_a_finite_interval_takes_so_many_faces_and_no_fewer(level: float) -> None:
    needed = faces_needed(level)
    assert np.isfinite(conformal_quantile(np.arange(needed), level))
    assert conformal_quantile(np.arange(needed - 1), level) == math.inf


def test_a_new_score_is_covered_as_often_as_promised() -> None:
    # 19 scores and level 0.9: rank 18 of 20 equally likely places, whatever the distribution
    scores = np.random.default_rng(1).exponential(size=(20_000, 20))
    held = [row[19] <= conformal_quantile(row[:19], 0.9) for row in scores]
    assert np.mean(held) == pytest.approx(18 / 20, abs=0.01)


@pytest.mark.parametrize("level", [0.0, 1.0, -1, float("nan")])
def test_refuses_levels_that_are_none(level: float) -> None:
    with pytest.raises(ValueError, match="it must lie between 0 and 1"):
        conformal_quantile([1.0], level)


def test_coverage_counts_bounds_as_inside_and_gives_wilsons_interval() -> None:
    target = np.arange(10.0)
    found = coverage(target - 1, np.where(target < 8, target, target - 0.5), target)
    assert (found.share.point, found.faces) == (0.8, 10)
    assert found.width == pytest.approx((8 * 1 + 2 * 0.5) / 10)
    # Wilson's interval from its formula
    z, n, p = stats.norm.ppf(0.975), 10, 0.8
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert found.share.low == pytest.approx(centre - half)
    assert found.share.high == pytest.approx(centre + half)


def test_of_no_face_there_is_no_coverage() -> None:
    found = coverage([], [], [])
    assert math.isnan(found.share.point)
    assert math.isnan(found.width)
    assert share_interval(0, 0).point != share_interval(0, 1).point


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes \[\(2,\), \(1,\)\]"):
        aligned([1, 2], [1])


@pytest.mark.parametrize("level", LEVELS)
def test_winklers_score_is_lowest_for_the_true_quantiles(level: float) -> None:
    target = stats.norm.ppf(midpoints(2000))
    z = stats.norm.ppf((1 + level) / 2)

    def score(half: float) -> float:
        return winkler(np.full(2000, -half), np.full(2000, half), target, level)

    slow = np.mean([2 * z + 2 / (1 - level) * max(0.0, abs(y) - z) for y in target])
    assert score(z) == pytest.approx(slow)
    assert score(z) < min(score(0.8 * z), score(1.2 * z))


def test_crps_of_a_normal_is_its_closed_form() -> None:
    rng = np.random.default_rng(2)
    mean, deviation, target = rng.normal(30, 9, 50), rng.uniform(1, 6, 50), rng.normal(30, 9, 50)
    p = midpoints(1000)
    quantiles = mean[:, None] + deviation[:, None] * stats.norm.ppf(p)
    z = (target - mean) / deviation
    # Gneiting et al., 2005, equation 5
    closed = deviation * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / math.sqrt(math.pi))
    np.testing.assert_allclose(crps(quantiles, p, target), closed, rtol=2e-3)


def test_crps_is_the_integral_of_the_squared_difference_of_distribution_functions() -> None:
    sample, target = np.array([1.0, 2.0, 4.0, 8.0]), 3.0
    grid = np.linspace(0, 10, 200_001)
    below = (sample[None] <= grid[:, None]).mean(axis=1)
    expected = np.trapezoid((below - (grid >= target)) ** 2, grid)
    p = midpoints(4000)
    quantiles = sample[np.minimum((p * 4).astype(int), 3)]
    assert crps(quantiles[None], p, [target])[0] == pytest.approx(expected, rel=1e-3)


def test_crps_of_a_point_is_the_absolute_error_and_blocks_change_nothing() -> None:
    target = np.random.default_rng(3).normal(size=9000)
    asked = []

    def point(rows: slice, p: np.ndarray) -> np.ndarray:
        asked.append(rows.stop - rows.start)
        return np.zeros((rows.stop - rows.start, p.size))

    np.testing.assert_allclose(crps_in_blocks(point, target), np.abs(target))
    assert sum(asked) == 9000
    assert max(asked) <= 4096


def test_pit_is_even_where_calibrated_and_u_shaped_where_too_sure() -> None:
    target = stats.norm.ppf(midpoints(1000))
    np.testing.assert_allclose(pit_histogram(stats.norm.cdf(target)), 0.1)
    sure = pit_histogram(stats.norm.cdf(target / 0.4))
    assert sure[0] > 0.2 > 0.05 > sure[5]
    assert sure.sum() == pytest.approx(1)
    assert pit_histogram([0.0, 1.0]).sum() == 1
