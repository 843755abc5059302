import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.core.errors import UserError
from pipeline.evaluation.numbers import evaluate
from pipeline.evaluation.policies import policy_rows, pooled_rows
from pipeline.evaluation.results import Results
from pipeline.evaluation.settings import Settings

RUNS = [(policy, optimizer) for policy in ("fixed", "found") for optimizer in ("adam", "sgd")]


def long_predictions(results: Results, run_index: int, split: str) -> pd.DataFrame:
    """Predictions of sound members as one row a member and face: slow, but hard to get wrong."""
    run = results.runs[run_index]
    rows = []
    for position, score in run.scores.iterrows():
        if score["diverged"]:
            continue
        for column, face in results.faces.iterrows():
            if face["split"] == split:
                rows.append(
                    (score["member"], face["face_id"], face["target"], run.predictions[position, column])
                )
    return pd.DataFrame(rows, columns=["member", "face_id", "target", "prediction"])


def error(frame: pd.DataFrame) -> pd.Series:
    return (frame["prediction"] - frame["target"]).abs()


@pytest.mark.parametrize("run", range(4))
def test_members_hold_the_errors_of_their_predictions(complete, evaluated, run):
    name = complete.runs[run]
    rows = evaluated.members
    rows = rows[(rows["policy"] == name.policy) & (rows["optimizer"] == name.optimizer)].set_index("member")
    long = long_predictions(complete, run, "test")
    long["error"] = error(long)
    for member, group in long.groupby("member"):
        assert rows.loc[member, "test_mae"] == pytest.approx(group["error"].mean())
        assert rows.loc[member, "test_rmse"] == pytest.approx(np.sqrt((group["error"] ** 2).mean()))
        assert rows.loc[member, "test_cs"] == pytest.approx((group["error"] <= 5).mean())
        assert rows.loc[member, "test_pearson"] == pytest.approx(group["target"].corr(group["prediction"]))
        minors, called = group[group["target"] < 18], group[group["prediction"] < 18]
        assert rows.loc[member, "test_recall"] == pytest.approx((minors["prediction"] < 18).mean())
        assert rows.loc[member, "test_precision"] == pytest.approx((called["target"] < 18).mean())


def test_a_diverged_member_is_listed_without_numbers(evaluated):
    (row,) = evaluated.members[evaluated.members["diverged"]].to_dict("records")
    assert row["id"] == "fixed/sgd/02"
    assert np.isnan(
        [row[name] for name in ("test_mae", "test_rmse", "test_cs", "test_recall", "rank_val")]
    ).all()


def test_summary_counts_and_averages_what_pandas_does(evaluated):
    grouped = evaluated.members.groupby(["policy", "optimizer"])
    for measure in ("mae", "val_mae", "test_mae"):
        rows = evaluated.summary[evaluated.summary["measure"] == measure].set_index(["policy", "optimizer"])
        expected = grouped[measure].agg(["count", "min", "mean", "std", "median", "max"])
        for column, name in (
            ("members", "count"),
            *((n, n) for n in ("min", "mean", "std", "median", "max")),
        ):
            np.testing.assert_allclose(rows[column].loc[expected.index], expected[name], err_msg=column)
        assert rows["diverged"].to_dict()[("fixed", "sgd")] == 1
        assert (rows["iqm_low"] <= rows["iqm"]).all()
        assert (rows["iqm"] <= rows["iqm_high"]).all()


def test_the_best_optimizer_of_a_policy_is_that_of_the_lowest_mean_validation_error(evaluated):
    means = evaluated.members.groupby(["policy", "optimizer"])["val_mae"].mean()
    assert evaluated.best == {policy: means[policy].idxmin() for policy in ("fixed", "found")}
    assert evaluated.best == {"fixed": "adam", "found": "sgd"}


def with_divergence(results, run, count):
    """The same results with the first models of a run diverged, and the others better than any."""
    found = results.runs[run]
    lost = np.arange(len(found.scores)) < count
    errors = dict.fromkeys(("mae", "val_mae", "test_mae"), np.where(lost, np.nan, 0.5))
    scores = found.scores.assign(diverged=lost, **errors)
    predictions = np.where(lost[:, None], np.nan, found.predictions)
    changed = dataclasses.replace(found, scores=scores, predictions=predictions)
    return dataclasses.replace(results, runs=(*results.runs[:run], changed, *results.runs[run + 1 :]))


@pytest.mark.parametrize("count", [1, 5])
def test_an_optimizer_that_often_diverges_is_not_best_by_the_models_that_it_keeps(complete, count):
    results = with_divergence(complete, 1, count)
    assert evaluate(results, Settings(resamples=10, groups=[], group_edges=())).best["fixed"] == "adam"
    results = with_divergence(complete, 1, 0)
    assert evaluate(results, Settings(resamples=10, groups=[], group_edges=())).best["fixed"] == "sgd"


def test_where_all_often_diverge_the_best_is_of_those_that_do_so_least(complete):
    results = with_divergence(with_divergence(complete, 0, 2), 1, 3)
    assert evaluate(results, Settings(resamples=10, groups=[], group_edges=())).best["fixed"] == "adam"
    results = with_divergence(with_divergence(complete, 0, 4), 1, 3)
    assert evaluate(results, Settings(resamples=10, groups=[], group_edges=())).best["fixed"] == "sgd"


def test_improvement_pairs_every_two_optimizers_and_every_two_policies_by_seed(evaluated):
    assert evaluated.improvement["title"].tolist() == [
        "ADAM beats SGD (fixed)",
        "SGD beats ADAM (found)",
        "fixed beats found (ADAM)",
        "found beats fixed (SGD)",
    ]
    assert evaluated.improvement["seeds"].tolist() == [5, 6, 6, 5], "the diverged seed is left out"
    by_seed = evaluated.members.pivot(index="seed", columns=["policy", "optimizer"], values="test_mae")
    for row in evaluated.improvement.to_dict("records"):
        kind = "optimizer" if row["policy"] else "policy"
        keys = [
            (row["policy"], row[name]) if kind == "optimizer" else (row[name], row["optimizer"])
            for name in ("first", "second")
        ]
        pair = by_seed[keys].dropna()
        assert row["probability"] == (pair[keys[0]] < pair[keys[1]]).mean()
        assert row["probability"] >= 0.5
        assert row["low"] <= row["probability"] <= row["high"]


def with_errors(results, errors):
    """The same results with the test errors told, {(policy, optimizer): one number a member}."""
    return dataclasses.replace(
        results,
        runs=tuple(
            dataclasses.replace(run, scores=run.scores.assign(test_mae=errors[run.policy, run.optimizer]))
            for run in results.runs
        ),
    )


def test_a_policy_does_not_win_because_its_worst_optimizer_diverged(complete):
    errors = {
        ("fixed", "adam"): 2.2 + np.arange(6) / 100,
        ("fixed", "sgd"): np.full(6, np.nan),
        ("found", "adam"): 2.0 + np.arange(6) / 100,
        ("found", "sgd"): np.full(6, 5.0),
    }
    found = pd.DataFrame(pooled_rows(with_errors(complete, errors), Settings(resamples=200)))
    assert found["policy"].tolist() == ["fixed", "found"]
    assert found["iqm"].tolist() == pytest.approx([2.225, 2.025])
    assert found["members"].tolist() == [6, 6]
    assert found["left_out"].tolist() == ["SGD altogether (6 of 6 seeds)"] * 2


def test_policies_are_pooled_over_the_seeds_that_ended_well_under_both(complete):
    errors = {name: np.arange(1.0, 7.0) for name in RUNS}
    errors["fixed", "sgd"] = np.array([np.nan, 2, 3, 4, 5, 6])
    errors["found", "sgd"] = np.array([1, 2, 3, 4, 5, np.nan])
    found = pd.DataFrame(pooled_rows(with_errors(complete, errors), Settings(resamples=200)))
    assert found["members"].tolist() == [8, 8], "four seeds, which both optimisers have"
    assert found["iqm"].nunique() == 1
    assert found["left_out"].tolist() == ["2 of 6 seeds (SGD)"] * 2


def test_an_optimizer_that_often_diverges_does_not_cost_the_others_their_seeds(complete):
    errors = {name: np.arange(1.0, 7.0) for name in RUNS}
    errors["fixed", "sgd"] = np.array([np.nan, np.nan, np.nan, np.nan, 5, 6])
    errors["found", "adam"] = np.array([1, 2, 3, 4, 5, np.nan])
    found = pd.DataFrame(pooled_rows(with_errors(complete, errors), Settings(resamples=200)))
    assert found["members"].tolist() == [5, 5]
    assert found["left_out"].tolist() == ["SGD altogether (4 of 6 seeds), 1 of 6 seeds (ADAM)"] * 2


def test_policies_that_share_no_sound_seed_are_not_pooled(complete):
    errors = {name: np.full(6, np.nan if name[0] == "fixed" else 1.0) for name in RUNS}
    assert list(pooled_rows(with_errors(complete, errors), Settings(resamples=200))) == []
    assert list(policy_rows(with_errors(complete, errors), Settings(resamples=200))) == []


def test_policies_are_judged_seed_by_seed_although_their_own_intervals_overlap(complete):
    hard = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    better = {"fixed": hard, "found": hard - 0.05}
    results = with_errors(complete, {(policy, optimizer): better[policy] for policy, optimizer in RUNS})
    fixed, found = pooled_rows(results, Settings(resamples=200))
    assert found["iqm_high"] > fixed["iqm_low"]
    (row,) = policy_rows(results, Settings(resamples=200))
    assert (row["first"], row["second"], row["models"]) == ("found", "fixed", 12)
    assert [row[name] for name in ("difference", "low", "high")] == pytest.approx([-0.05] * 3)


def test_the_difference_between_policies_equals_a_slow_bootstrap_of_whole_seeds(complete):
    rng = np.random.default_rng(3)
    hard = rng.normal(0, 2, 6)
    errors = {
        (policy, optimizer): 9 + rng.normal(0, 0.5, 6) + (hard if policy == "fixed" else 0)
        for policy, optimizer in RUNS
    }
    errors["fixed", "sgd"][1] = np.nan
    (row,) = policy_rows(with_errors(complete, errors), Settings(resamples=4000))
    pairs = np.stack(
        [errors["fixed", optimizer] - errors["found", optimizer] for optimizer in ("adam", "sgd")]
    )
    pairs = pairs[:, [0, 2, 3, 4, 5]]
    sign = 1 if row["first"] == "fixed" else -1
    assert row["models"] == 10
    assert row["difference"] == pytest.approx(sign * stats.trim_mean(pairs.ravel(), 0.25))
    assert row["difference"] <= 0
    drawn = [sign * stats.trim_mean(pairs[:, rng.integers(0, 5, 5)].ravel(), 0.25) for _ in range(4000)]
    assert [row["low"], row["high"]] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.1)


def test_intervals_over_seeds_hold_the_truth_although_optimizers_share_what_is_hard_in_a_seed(complete):
    # errors of one seed correlate by 0.8 between optimisers; so do the differences between policies
    rng = np.random.default_rng(0)
    pooled, apart = 0, 0
    for trial in range(60):
        runs = []
        hard = {policy: rng.normal(0, np.sqrt(0.8), 20) for policy in ("fixed", "found")}
        for policy, optimizer in itertools.product(("fixed", "found"), ("adam", "sgd", "adamax", "rmsprop")):
            errors = 5 + hard[policy] + rng.normal(0, np.sqrt(0.2), 20)
            scores = pd.DataFrame({"seed": np.arange(20), "test_mae": errors})
            runs.append(
                dataclasses.replace(complete.runs[0], policy=policy, optimizer=optimizer, scores=scores)
            )
        results, settings = Results(complete.faces, tuple(runs)), Settings(resamples=300, seed=trial)
        pooled += sum(row["iqm_low"] < 5 < row["iqm_high"] for row in pooled_rows(results, settings))
        apart += sum(row["low"] < 0 < row["high"] for row in policy_rows(results, settings))
    assert pooled / 120 > 0.85
    assert apart / 60 > 0.85


def test_runs_without_a_common_seed_are_not_compared(complete):
    scores = complete.runs[1].scores.assign(seed=lambda frame: frame["seed"] + 1000)
    moved = dataclasses.replace(complete.runs[1], scores=scores)
    runs = (complete.runs[0], moved)
    found = evaluate(dataclasses.replace(complete, runs=runs), Settings(resamples=10))
    assert found.improvement.empty


def test_choices_and_ensembles_equal_a_slow_computation(complete, evaluated):
    everything = []
    for index, run in enumerate(complete.runs):
        for split in ("validation", "test"):
            long = long_predictions(complete, index, split)
            everything.append(long.assign(policy=run.policy, optimizer=run.optimizer, split=split))
    long = pd.concat(everything)
    long["error"] = error(long)
    long["id"] = long["policy"] + "/" + long["optimizer"] + "/" + long["member"].map("{:02.0f}".format)
    for choice in evaluated.choices.to_dict("records"):
        mine = long
        if choice["policy"] != "all":
            mine = long[(long["policy"] == choice["policy"]) & (long["optimizer"] == choice["optimizer"])]
        scores = mine.groupby(["split", "id"])["error"].mean()
        assert choice["members"] == len(scores["test"])
        assert choice["mean"] == pytest.approx(scores["test"].mean())
        assert choice["chosen_on_validation"] == scores["validation"].idxmin()
        assert choice["validation_choice"] == pytest.approx(scores["test"][scores["validation"].idxmin()])
        assert choice["chosen_on_test"] == scores["test"].idxmin()
        assert choice["test_choice"] == pytest.approx(scores["test"].min())
        five = scores["validation"].nsmallest(5).index
        for column, ids in (("ensemble_all", scores["test"].index), ("ensemble_five", five)):
            some = mine[(mine["split"] == "test") & mine["id"].isin(ids)]
            averaged = some.groupby("face_id")[["prediction", "target"]].mean()
            assert choice[column] == pytest.approx(error(averaged).mean()), column


def test_contenders_hold_every_baseline_and_only_the_choice_on_test_is_optimistic(complete, evaluated):
    rows = evaluated.contenders.set_index("title")
    assert rows.index.tolist() == [
        "ridge regression",
        "svr regression",
        "single model, chosen on validation",
        "single model, chosen on test",
        "ensemble of all models",
        "ensemble of the 5 best on validation",
    ]
    assert rows["optimistic"].tolist() == [False, False, False, True, False, False]
    test = complete.rows("test")
    assert complete.baselines is not None
    errors = np.abs(complete.baselines.predictions[1, test] - complete.target("test"))
    assert rows.loc["svr regression", "mae"] == pytest.approx(errors.mean())
    assert rows.loc["svr regression", "low"] < errors.mean() < rows.loc["svr regression", "high"]


def test_the_best_contender_is_best_on_validation_and_behind_nobody(evaluated):
    rows = evaluated.contenders
    (best,) = np.flatnonzero(rows["best"])
    honest = rows[~rows["optimistic"]]
    assert rows["val_mae"][best] == honest["val_mae"].min()
    assert rows["behind"][best] == 0
    np.testing.assert_allclose(rows["behind"], rows["mae"] - rows["mae"][best], atol=1e-12)


def test_differences_compare_every_two_contenders_face_by_face(complete, evaluated):
    rows = evaluated.differences.set_index(["first", "second"])
    titles = evaluated.contenders["title"]
    assert len(rows) == len(titles) * (len(titles) - 1)
    test = complete.rows("test")
    errors = np.abs(complete.baselines.predictions[:, test] - complete.target("test"))
    apart = errors[0] - errors[1]
    row = rows.loc[("ridge regression", "svr regression")]
    interval = stats.ttest_rel(errors[0], errors[1]).confidence_interval()
    assert row.tolist() == pytest.approx([apart.mean(), interval.low, interval.high])
    assert rows.loc[("svr regression", "ridge regression"), "difference"] == pytest.approx(-apart.mean())


def test_error_per_target_covers_the_three_best_of_each_policys_best_optimizer(complete, evaluated):
    rows = evaluated.per_target
    members = evaluated.members.set_index("id")
    for policy, run in (("fixed", 0), ("found", 3)):
        ids = rows.loc[rows["policy"] == policy, "id"].unique()
        assert sorted(members.loc[ids, "rank_val"]) == [1, 2, 3]
        long = long_predictions(complete, run, "test")
        long = long[long["member"] == members.loc[ids[0], "member"]]
        long["error"] = error(long)
        found = rows[rows["id"] == ids[0]].set_index("target")
        pd.testing.assert_series_equal(
            found["error"], long.groupby("target")["error"].mean(), check_index_type=False
        )
        assert found["faces"].sum() == complete.rows("test").sum()


def test_training_predictions_are_not_needed(complete, evaluated):
    judged = ~complete.rows("train")
    runs = tuple(
        dataclasses.replace(run, predictions=np.where(judged, run.predictions, np.nan))
        for run in complete.runs
    )
    without = evaluate(dataclasses.replace(complete, runs=runs), evaluated.settings)
    for name in ("members", "choices", "contenders"):
        pd.testing.assert_frame_equal(getattr(without, name), getattr(evaluated, name), check_exact=True)


def test_without_a_threshold_nobody_is_asked_whether_under_it(complete):
    found = evaluate(complete, Settings(threshold=None, resamples=10))
    assert "test_recall" not in found.members
    assert "recall" not in found.contenders


def test_works_without_baselines_and_with_one_member(complete):
    run = complete.runs[0]
    single = dataclasses.replace(run, scores=run.scores[:1], predictions=run.predictions[:1])
    found = evaluate(Results(complete.faces, (single,)), Settings(resamples=10))
    assert np.isnan(found.summary["std"]).all()
    assert found.contenders["kind"].tolist() == ["model", "optimistic", "ensemble", "ensemble"]


def test_refuses_a_run_in_which_everything_diverged(complete):
    run = complete.runs[0]
    lost = dataclasses.replace(run, scores=run.scores.assign(diverged=True, val_mae=np.nan, test_mae=np.nan))
    with pytest.raises(UserError, match="every model diverged"):
        evaluate(Results(complete.faces, (lost,)))


def test_an_optimizer_that_always_diverges_is_counted_and_never_chosen(complete):
    run = complete.runs[1]
    nothing = dict.fromkeys(("mae", "val_mae", "test_mae"), np.nan)
    lost = dataclasses.replace(
        run,
        scores=run.scores.assign(diverged=True, **nothing),
        predictions=np.full_like(run.predictions, np.nan),
    )
    found = evaluate(Results(complete.faces, (complete.runs[0], lost)), Settings(resamples=10))
    row = found.summary[(found.summary["optimizer"] == "sgd") & (found.summary["measure"] == "test_mae")]
    assert (row["members"].item(), row["diverged"].item()) == (0, 6)
    assert found.best == {"fixed": "adam"}
    assert "sgd" not in found.choices["optimizer"].tolist()


def test_the_same_results_give_the_same_numbers(complete, evaluated):
    again = evaluate(complete, evaluated.settings)
    for name in (
        "members",
        "summary",
        "pooled",
        "policies",
        "improvement",
        "choices",
        "contenders",
        "differences",
    ):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(evaluated, name), check_exact=True)
