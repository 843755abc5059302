import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import precision_score, recall_score

from pipeline.metrics import cumulative_score, error_per_target, mae, pearson, precision_recall_under, rmse

METRICS = [mae, rmse, pearson, cumulative_score]


@pytest.fixture
def stack() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    target = rng.uniform(0, 40, 57)
    return target + rng.normal(0, 6, (4, 57)), target


def test_mae_and_rmse_equal_plain_loops(stack):
    prediction, target = stack
    for member, one in enumerate(prediction):
        absolute = sum(abs(p - t) for p, t in zip(one, target, strict=True)) / len(target)
        squared = sum((p - t) ** 2 for p, t in zip(one, target, strict=True)) / len(target)
        assert mae(prediction, target)[member] == pytest.approx(absolute, rel=1e-12)
        assert rmse(prediction, target)[member] == pytest.approx(math.sqrt(squared), rel=1e-12)


def test_pearson_equals_scipy_for_every_member(stack):
    prediction, target = stack
    expected = [stats.pearsonr(one, target).statistic for one in prediction]
    np.testing.assert_allclose(pearson(prediction, target), expected, rtol=1e-12)


def test_pearson_of_a_constant_is_not_a_number():
    assert np.isnan(pearson([0.1, 0.1, 0.1], [1.0, 2.0, 3.0]))
    assert np.isnan(pearson([1.0, 2.0, 3.0], [0.1, 0.1, 0.1]))


def test_cumulative_score_counts_errors_up_to_and_including_the_bound(stack):
    prediction, target = stack
    for years in (0.5, 5, 7.25):
        expected = [
            sum(abs(p - t) <= years for p, t in zip(one, target, strict=True)) / len(target)
            for one in prediction
        ]
        np.testing.assert_allclose(cumulative_score(prediction, target, years), expected)
    assert cumulative_score([15.0, 15.001], [10.0, 10.0]) == 0.5


def test_precision_and_recall_equal_scikit_learn(stack):
    prediction, target = stack
    precision, recall = precision_recall_under(prediction, target, 18)
    for member, one in enumerate(prediction):
        assert precision[member] == precision_score(target < 18, one < 18)
        assert recall[member] == recall_score(target < 18, one < 18)


def test_precision_without_a_positive_answer_and_recall_without_a_minor_are_not_numbers():
    precision, recall = precision_recall_under([30.0, 40.0], [10.0, 40.0], 18)
    assert np.isnan(precision)
    assert recall == 0
    precision, recall = precision_recall_under([10.0, 40.0], [30.0, 40.0], 18)
    assert precision == 0
    assert np.isnan(recall)


def test_exactly_the_threshold_is_not_under_it():
    precision, recall = precision_recall_under([17.9, 18.0], [17.9, 18.0], 18)
    assert (precision, recall) == (1, 1)


def test_error_per_target_equals_a_plain_loop(stack):
    prediction, target = stack
    found = error_per_target(prediction, np.round(target))
    for column, (value, count) in enumerate(zip(found.values, found.counts, strict=True)):
        here = [face for face in range(len(target)) if round(target[face]) == value]
        assert count == len(here)
        for member in range(len(prediction)):
            expected = sum(abs(prediction[member, face] - value) for face in here) / len(here)
            assert found.errors[member, column] == pytest.approx(expected, rel=1e-12)


def test_error_per_target_bins_to_the_nearest_multiple_and_halves_upwards():
    found = error_per_target(np.zeros(5), [0.4, 0.5, 1.4, 1.5, 2.5])
    np.testing.assert_array_equal(found.values, [0, 1, 2, 3])
    np.testing.assert_array_equal(found.counts, [1, 2, 1, 1])
    wide = error_per_target(np.zeros(3), [4.0, 6.0, 11.0], width=5)
    np.testing.assert_array_equal(wide.values, [5, 10])


@pytest.mark.parametrize("metric", METRICS)
def test_one_model_gives_a_scalar_and_a_stack_one_number_a_member(metric, stack):
    prediction, target = stack
    assert np.shape(metric(prediction[0], target)) == ()
    assert np.shape(metric(prediction, target)) == (4,)
    assert metric(prediction, target)[2] == metric(prediction[2], target)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("metric", [*METRICS, lambda p, t: precision_recall_under(p, t, 18).precision])
def test_a_member_with_one_broken_prediction_scores_nan_and_touches_nobody_else(metric, bad, stack):
    prediction, target = stack
    broken = prediction.copy()
    broken[1, 5] = bad
    scores = metric(broken, target)
    assert np.isnan(scores[1])
    np.testing.assert_array_equal(np.delete(scores, 1), np.delete(metric(prediction, target), 1))


def test_says_which_shapes_do_not_fit():
    with pytest.raises(ValueError, match=r"predictions of shape \(2, 3\) do not fit 4 targets"):
        mae(np.zeros((2, 3)), np.zeros(4))
    with pytest.raises(ValueError, match=r"do not fit 3 targets"):
        mae(np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(ValueError, match="at least one"):
        mae([], [])
    with pytest.raises(ValueError, match="target 1 is nan"):
        mae([1.0, 2.0], [1.0, np.nan])


def test_refuses_bounds_that_mean_nothing():
    with pytest.raises(ValueError, match="years is -1"):
        cumulative_score([1.0], [1.0], -1)
    with pytest.raises(ValueError, match="years is nan"):
        cumulative_score([1.0], [1.0], np.nan)
    with pytest.raises(ValueError, match="width is 0"):
        error_per_target([1.0], [1.0], 0)
