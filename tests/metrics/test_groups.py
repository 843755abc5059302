import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from pipeline.metrics import age_bins, balancing_weights, bias_score, fairness_table, group_errors
from pipeline.metrics.bias import bias, joint_factor

N = 600
RNG = np.random.default_rng(3)
TARGET = RNG.uniform(1, 90, N)
GENDER = RNG.choice(["female", "male"], N, p=[0.4, 0.6])
ETHNICITY = np.where(RNG.random(N) < 0.1, None, RNG.choice(["a", "b", "c"], N))
SPREAD = np.select([ETHNICITY == "a", ETHNICITY == "b"], [2.0, 4.0], 7.0)
PREDICTION = TARGET + RNG.normal(0, SPREAD)


def slow_errors(prediction, target, groups):
    """Sums by plain dictionaries."""
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for p, t, g in zip(prediction, target, groups, strict=True):
        name = "unknown" if g is None else g
        sums[name] = sums.get(name, 0.0) + abs(p - t)
        counts[name] = counts.get(name, 0) + 1
    return {name: sums[name] / counts[name] for name in sums}, counts


def slow_bias(prediction, target, groups):
    errors, _ = slow_errors(prediction, target, groups)
    known = [errors[name] for name in sorted(errors) if name != "unknown"]
    differences = [abs(a - b) for i, a in enumerate(known) for b in known[i + 1 :]]
    return sum(differences) / len(differences)


@pytest.mark.parametrize("groups", [GENDER, ETHNICITY], ids=["two groups", "three and unknown"])
def test_errors_and_counts_by_group_are_those_of_plain_sums(groups):
    found = group_errors(PREDICTION, TARGET, groups)
    errors, counts = slow_errors(PREDICTION, TARGET, groups)
    assert dict(zip(found.groups, found.mae, strict=True)) == pytest.approx(errors)
    assert dict(zip(found.groups, found.faces.tolist(), strict=True)) == counts
    assert ((found.low < found.mae) & (found.mae < found.high)).all()


def test_faces_of_unknown_group_are_told_last_and_do_not_enter_the_bias():
    found = group_errors(PREDICTION, TARGET, ETHNICITY)
    assert found.groups == ("a", "b", "c", "unknown")
    known = np.array([group is not None for group in ETHNICITY])
    assert bias_score(PREDICTION, TARGET, ETHNICITY) == pytest.approx(
        bias_score(PREDICTION[known], TARGET[known], ETHNICITY[known])
    )
    assert bias_score(PREDICTION, TARGET, ETHNICITY) == pytest.approx(
        slow_bias(PREDICTION, TARGET, ETHNICITY)
    )


def test_a_group_that_is_called_unknown_is_not_taken_for_faces_without_a_group():
    said = np.where(ETHNICITY == "c", "unknown", ETHNICITY)
    found, expected = (group_errors(PREDICTION, TARGET, groups) for groups in (said, ETHNICITY))
    assert found.groups == ("a", "b", "unknown", "(unknown)")
    assert found.faces.tolist() == expected.faces.tolist()
    np.testing.assert_allclose([found.mae, found.low], [expected.mae, expected.low])
    assert bias_score(PREDICTION, TARGET, said) == bias_score(PREDICTION, TARGET, ETHNICITY)
    assert bias(PREDICTION, TARGET, said)[:5] == bias(PREDICTION, TARGET, ETHNICITY)[:5]
    assert balancing_weights(said).tolist() == balancing_weights(ETHNICITY).tolist()


def test_the_bias_of_two_groups_is_their_difference_and_of_one_not_defined():
    found = group_errors(PREDICTION, TARGET, GENDER)
    assert bias_score(PREDICTION, TARGET, GENDER) == pytest.approx(abs(found.mae[0] - found.mae[1]))
    assert math.isnan(bias_score(PREDICTION, TARGET, ["female"] * N))
    assert math.isnan(bias_score(PREDICTION, TARGET, [None] * N))


def test_every_member_of_a_stack_has_its_own_bias_and_a_diverged_one_none():
    broken = PREDICTION.copy()
    broken[3] = np.nan
    scores = bias_score(np.stack([PREDICTION, TARGET, broken]), TARGET, GENDER)
    assert scores[0] == pytest.approx(slow_bias(PREDICTION, TARGET, GENDER))
    assert scores[1] == 0
    assert math.isnan(scores[2])
    assert (
        group_errors(broken, TARGET, GENDER).faces.tolist()
        == group_errors(PREDICTION, TARGET, GENDER).faces.tolist()
    )


def test_age_bins_are_those_of_the_report_in_order():
    bins = age_bins([0, 19.9, 20, 39, 40, 59, 60, 99])
    assert list(bins) == ["<20", "<20", "20-40", "20-40", "40-60", "40-60", "60+", "60+"]
    found = group_errors(PREDICTION, TARGET, age_bins(TARGET))
    assert found.groups == ("<20", "20-40", "40-60", "60+")
    assert list(age_bins([1.0, 5.0], edges=[3.5])) == ["<3.5", "3.5+"]
    with pytest.raises(ValueError, match="ascending"):
        age_bins([1.0], edges=[3.0, 3.0])


def test_intervals_hold_the_true_bias_about_as_often_as_they_say():
    # errors of mean 1 and 2: the true score is 1
    rng = np.random.default_rng(0)
    groups = np.repeat(["a", "b"], [150, 50])
    held = 0
    for trial in range(80):
        errors = np.concatenate([rng.exponential(1, 150), rng.exponential(2, 50)])
        found = bias(errors, np.zeros(200), groups, seed=trial, resamples=500)
        held += found.low <= 1 <= found.high
    assert 0.9 <= held / 80 <= 0.99


def test_equal_groups_rarely_score_above_chance_and_unequal_ones_do():
    rng = np.random.default_rng(1)
    groups = np.repeat(["a", "b", "c"], [200, 80, 20])
    above = 0
    for trial in range(80):
        found = bias(rng.normal(0, 3, 300), np.zeros(300), groups, seed=trial, resamples=500)
        assert found.groups == 3
        above += found.score > found.chance
    assert above / 80 < 0.12
    unequal = bias(PREDICTION, TARGET, ETHNICITY)
    assert unequal.score > unequal.chance
    assert unequal.low < unequal.score < unequal.high


def test_the_largest_of_several_equal_columns_is_rarely_called_a_difference():
    # the same faces again and again, with other errors that have nothing to do with their groups
    rng = np.random.default_rng(2)
    samples = np.abs(rng.normal(0, 3, (2000, 1500)))
    ratios, found = [], []
    for kinds in (2, 2, 3, 4):
        column = rng.choice(["a", "b", "c", "d"][:kinds], 1500)
        one = bias(samples[0], np.zeros(1500), column, seed=len(found), resamples=4000)
        means = [samples[:, column == name].mean(axis=1) for name in np.unique(column)]
        apart = np.mean([np.abs(a - b) for a, b in combinations(means, 2)], axis=0)
        assert one.score == pytest.approx(apart[0])
        ratios.append(apart / one.chance)
        found.append(one)
    largest = np.max(ratios, axis=0)
    assert (largest > 1).mean() > 0.12, "each column by itself claims too much"
    assert (largest > joint_factor(found)).mean() == pytest.approx(0.05, abs=0.015)


def test_columns_without_chance_take_no_part_in_the_joint_factor():
    single = bias([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], ["a", "a", "b"], resamples=300)
    exact = bias(TARGET, TARGET, GENDER, resamples=300)
    found = bias(PREDICTION, TARGET, GENDER, resamples=300)
    assert joint_factor([single, found, exact]) == pytest.approx(1)
    assert math.isnan(joint_factor([single, exact]))
    assert math.isnan(joint_factor([]))


def test_a_group_of_one_face_has_no_interval():
    found = bias([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], ["a", "a", "b"])
    assert (found.groups, found.score) == (2, 1.5)
    assert np.isnan([found.low, found.high, found.chance]).all()
    errors = group_errors([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], ["a", "a", "b"])
    assert np.isnan(errors.low).tolist() == [False, True]


def test_balancing_weights_make_every_group_weigh_the_same():
    weights = balancing_weights(ETHNICITY)
    sums = [weights[group == ETHNICITY].sum() for group in ("a", "b", "c")]
    known = np.array([group is not None for group in ETHNICITY])
    assert sums == pytest.approx([known.sum() / 3] * 3)
    assert (weights[~known] == 1).all()
    assert weights.mean() == pytest.approx(1)
    ages = age_bins(TARGET)
    assert pd.Series(balancing_weights(ages)).groupby(ages, observed=True).sum().to_numpy() == pytest.approx(
        [N / 4] * 4
    )
    assert (balancing_weights([None, None]) == 1).all()


def test_the_fairness_table_has_a_row_for_each_loss_and_weighting():
    members = np.stack([PREDICTION, PREDICTION + 1, np.full(N, np.nan)])
    table = fairness_table(
        {("mse", "none"): members, ("mape", "gender"): PREDICTION},
        TARGET,
        {"age": age_bins(TARGET), "gender": GENDER},
    )
    assert list(table.columns) == [
        "loss",
        "weighting",
        "models",
        "mae",
        "mae_std",
        "age_bias",
        "age_bias_std",
        "gender_bias",
        "gender_bias_std",
    ]
    first, second = table.to_dict("records")
    assert (first["loss"], first["weighting"], first["models"]) == ("mse", "none", 2)
    maes = [np.abs(row - TARGET).mean() for row in members[:2]]
    assert first["mae"] == pytest.approx(np.mean(maes))
    assert first["mae_std"] == pytest.approx(np.std(maes, ddof=1))
    scores = [slow_bias(row, TARGET, GENDER) for row in members[:2]]
    assert first["gender_bias"] == pytest.approx(np.mean(scores))
    assert second["gender_bias"] == pytest.approx(slow_bias(PREDICTION, TARGET, GENDER))
    assert math.isnan(second["gender_bias_std"])


def test_refuses_groups_of_another_length():
    with pytest.raises(ValueError, match="2 groups for 3 faces"):
        group_errors([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], ["a", "b"])
    with pytest.raises(ValueError, match="those of one model"):
        group_errors(np.zeros((2, 3)), [1.0, 2.0, 3.0], ["a", "b", "a"])


def test_a_single_face_has_an_error_and_no_interval():
    found = group_errors([3.0], [1.0], ["a"])
    assert (found.groups, found.faces.tolist(), found.mae.tolist()) == (("a",), [1], [2.0])
    assert np.isnan([*found.low, *found.high]).all()
