"""What rows of the accuracy tables say."""

import numpy as np
import pytest
from scipy import stats

from bench.accuracy.common import COLUMNS, Trained
from pipeline.metrics.distributions import estimate

ERRORS = np.array([[1.0, 2.0, 3.0], [0.5, 1.0, 1.5], [2.0, 2.0, 3.0]])
FIRST = Trained(ERRORS, np.array([2.0, 3.0, 2.5]), np.array([1.0, 1.5, 2.5]))
SECOND = Trained(ERRORS + [[0.1], [0.3], [0.2]], np.array([2.5, 3.0, 2.0]), np.array([1.5, 1.5, 3.0]))


def test_the_single_model_is_chosen_on_validation_and_not_on_test():
    assert FIRST.chosen == 2.0, "the first member, though the second has the lowest test error"
    assert SECOND.chosen == pytest.approx(7 / 3 + 0.2)


def test_a_model_that_diverged_is_not_chosen():
    errors = ERRORS.copy()
    errors[0] = np.nan
    assert Trained(errors, FIRST.val_mae, FIRST.ensemble_errors).chosen == pytest.approx(7 / 3)


def test_differences_to_the_first_row_are_paired_by_seed_and_by_face():
    *_, over_seeds, over_faces = SECOND.cells(FIRST)
    assert len(SECOND.cells(FIRST)) == len(COLUMNS) == len(FIRST.cells())
    low, high = estimate([0.1, 0.3, 0.2], statistic=np.mean)[1:]
    assert over_seeds == f"+0.200 [{low:+.3f}, {high:+.3f}]"
    assert low > 0, "not that of two independent means, which would hold 0"
    interval = stats.ttest_rel(SECOND.ensemble_errors, FIRST.ensemble_errors).confidence_interval()
    assert over_faces == f"+0.333 [{interval.low:+.3f}, {interval.high:+.3f}]"
    assert FIRST.cells()[-2:] == ["", ""]


def test_headers_say_what_an_interval_covers():
    assert all(("seeds" in name) != ("faces" in name) for name in COLUMNS if "95%" in name)
