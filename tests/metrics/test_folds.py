import math

import numpy as np
import pytest

from pipeline.metrics.folds import over_folds


def test_mean_and_spreads_are_those_of_a_nested_analysis():
    rng = np.random.default_rng(0)
    scores = rng.normal(5, 0.3, (5, 8)) + rng.normal(0, 1, (5, 1))
    found = over_folds(scores)
    means = [sum(row) / 8 for row in scores]
    mean = sum(means) / 5
    assert found.mean == pytest.approx(mean)
    assert found.fold_std == pytest.approx(math.sqrt(sum((m - mean) ** 2 for m in means) / 4))
    within = sum((x - m) ** 2 for row, m in zip(scores, means, strict=True) for x in row)
    assert found.seed_std == pytest.approx(math.sqrt(within / (5 * 7)))
    assert (found.folds, found.seeds, found.diverged) == (5, 8, 0)


def test_diverged_seeds_are_left_out_and_counted():
    found = over_folds([[1.0, np.nan], [np.nan, np.nan], [3.0, 5.0]])
    assert (found.folds, found.diverged) == (2, 3)
    assert found.mean == pytest.approx((1 + 4) / 2)
    assert found.seed_std == pytest.approx(math.sqrt(2))


def test_one_fold_or_one_seed_has_no_spread_of_its_kind():
    one = over_folds([[2.0, 4.0]])
    assert one.mean == 3
    assert math.isnan(one.fold_std)
    single = over_folds([[2.0], [4.0]])
    assert math.isnan(single.seed_std)
    assert single.fold_std == pytest.approx(math.sqrt(2))
    assert math.isnan(over_folds([[np.nan]]).mean)


def test_refuses_scores_of_another_shape():
    with pytest.raises(ValueError, match=r"shape is \(3,\)"):
        over_folds([1.0, 2.0, 3.0])
