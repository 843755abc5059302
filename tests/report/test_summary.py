import dataclasses
import json
import math

import pytest

from pipeline.evaluation import summary
from pipeline.evaluation.numbers import evaluate
from pipeline.evaluation.settings import Settings
from pipeline.report.sections import tiles


def test_metrics_are_a_tree_of_numbers_that_json_takes(evaluated):
    tree = summary.metrics(evaluated)
    json.dumps(tree, allow_nan=False)
    sgd = evaluated.members[
        (evaluated.members["policy"] == "fixed") & (evaluated.members["optimizer"] == "sgd")
    ]
    assert tree["fixed"]["sgd"]["diverged"] == 1
    assert tree["fixed"]["sgd"]["test_mae"]["mean"] == pytest.approx(sgd["test_mae"].mean(), abs=1e-6)
    row = evaluated.contenders.set_index("title").loc["svr regression"]
    assert tree["contenders"]["svr_regression"] == {
        "val_mae": pytest.approx(row["val_mae"], abs=1e-6),
        "mae": pytest.approx(row["mae"], abs=1e-6),
    }


def test_metrics_leave_out_what_is_not_a_number(complete):
    run = complete.runs[0]
    single = dataclasses.replace(run, scores=run.scores[:1], predictions=run.predictions[:1])
    found = evaluate(dataclasses.replace(complete, runs=(single,)), Settings(resamples=10))
    statistics = summary.metrics(found)["fixed"]["adam"]["test_mae"]
    assert "std" not in statistics
    assert all(math.isfinite(value) for value in statistics.values())


@pytest.mark.parametrize(
    ("title", "key"), [("SVR (RBF)", "svr_rbf"), ("k-nearest neighbours", "k_nearest_neighbours")]
)
def test_titles_become_keys(title, key):
    assert summary.key(title) == key


def test_findings_name_the_best_way_and_count_what_diverged(complete, evaluated):
    counted, best, policies, chosen, averaged, *rest = summary.sentences(complete, evaluated)
    assert counted.startswith(
        "24 models were trained on 120 faces, chosen on 60 and tested on 60; 1 of them diverged"
    )
    assert "SGD with the learning rate from the finder: over 6 seeds" in best
    assert policies.startswith(
        "Over the same seeds of the same optimisers the learning rate from the finder gives a lower error "
        "than the fixed learning rate: "
    )
    assert policies.endswith("Left out, because they diverged under a policy: 1 of 6 seeds (SGD).")
    assert evaluated.choices.iloc[-1]["chosen_on_validation"] in chosen
    assert averaged.startswith("Averaging predictions, validation faces choose the ensemble of")
    assert rest[0].startswith("The networks win: svr regression")


def counted(evaluated, counts):
    """The same evaluation with other numbers of models, {(policy, optimizer): (well, diverged, mean)}."""
    rows = evaluated.summary.copy()
    for (policy, optimizer), values in counts.items():
        run = (rows["policy"] == policy) & (rows["optimizer"] == optimizer)
        rows.loc[run, ["members", "diverged", "mean"]] = values
        if values[0] == 1:
            rows.loc[run, "std"] = math.nan
    return dataclasses.replace(evaluated, summary=rows)


def test_the_best_way_to_train_is_none_that_mostly_diverges(complete, evaluated):
    changed = counted(evaluated, {("fixed", "sgd"): (1, 19, 0.5), ("found", "sgd"): (18, 2, 1.0)})
    told = summary.sentences(complete, changed)[1]
    assert "SGD with the learning rate from the finder: over 18 seeds its test error is 1.00 ± " in told
    assert told.endswith(
        "; 2 of its 20 models diverged. Not ranked, because more than a tenth of their models diverged: "
        "SGD with the fixed learning rate (19 of 20)."
    )
    tile = tiles(changed)[0]
    assert tile.value.startswith("1.00 ± ")
    assert tile.note == "SGD, learning rate from the finder; 2 of 20 models diverged"


def test_where_every_way_mostly_diverges_it_is_said(complete, evaluated):
    lost = {
        (policy, optimizer): (1, 5, 1.0) for policy in ("fixed", "found") for optimizer in ("adam", "sgd")
    }
    told = summary.sentences(complete, counted(evaluated, lost | {("fixed", "adam"): (4, 2, 2.0)}))[1]
    assert "ADAM with the fixed learning rate: over 4 seeds its test error is 2.00 ± " in told
    assert (
        "2 of its 6 models diverged. Not ranked, because a larger share of their models diverged: SGD" in told
    )


def test_a_single_seed_has_no_spread(complete):
    run = complete.runs[0]
    single = dataclasses.replace(run, scores=run.scores[:1], predictions=run.predictions[:1])
    found = evaluate(dataclasses.replace(complete, runs=(single,)), Settings(resamples=10))
    error = f"{run.scores['test_mae'].iloc[0]:.2f}"
    told = summary.sentences(complete, found)
    assert told[1].endswith(f"with one seed its test error is {error} years.")
    assert tiles(found)[0].value == error
    assert not any("nan" in sentence for sentence in told)


def with_differences(evaluated, first, second, low, high):
    """The same evaluation, with another interval of the difference between two contenders."""
    rows = evaluated.differences.copy()
    row = (rows["first"] == first) & (rows["second"] == second)
    assert row.sum() == 1
    rows.loc[row, ["difference", "low", "high"]] = [(low + high) / 2, low, high]
    return dataclasses.replace(evaluated, differences=rows)


SVR, ALL, SINGLE = "svr regression", "ensemble of all models", "single model, chosen on validation"
FIVE = "ensemble of the 5 best on validation"


@pytest.fixture
def best_ensemble(evaluated):
    rows = evaluated.contenders.set_index("title")["val_mae"]
    return min((ALL, FIVE), key=lambda title: rows[title])


@pytest.mark.parametrize(
    ("low", "high", "begin", "inner"),
    [
        (-0.3, -0.1, "A baseline wins: ", "lower than that of the ensemble"),
        (0.1, 0.3, "The networks win: ", "higher than that of the ensemble"),
        (
            -0.1,
            0.3,
            "Baselines and networks are not told apart: ",
            "no different, as far as these faces show",
        ),
        (math.nan, math.nan, "Baselines and networks are not told apart: ", "face by face"),
    ],
)
def test_a_baseline_is_judged_by_the_paired_interval(
    complete, evaluated, best_ensemble, low, high, begin, inner
):
    found = summary.sentences(complete, with_differences(evaluated, SVR, best_ensemble, low, high))[-2]
    assert found.startswith(f"{begin}svr regression, the best baseline on validation")
    assert inner in found
    assert "Baselines learn from the original training faces alone" in found


def test_a_baseline_that_beats_the_single_model_but_not_the_ensemble_is_said_to(
    complete, evaluated, best_ensemble
):
    changed = with_differences(evaluated, SVR, best_ensemble, 0.1, 0.2)
    changed = with_differences(changed, SVR, SINGLE, -0.2, -0.1)
    *_, verdict, note, _ = summary.sentences(complete, changed)
    assert verdict.startswith("The networks win")
    assert note.startswith("That baseline still beats the single model")


@pytest.mark.parametrize("chosen", [ALL, FIVE])
def test_the_ensemble_is_chosen_on_validation_and_not_on_test(complete, evaluated, chosen):
    rows = evaluated.contenders.copy()
    rows.loc[rows["title"] == chosen, ["val_mae", "mae"]] = [0.1, 9.5]
    found = summary.sentences(complete, dataclasses.replace(evaluated, contenders=rows))[4]
    assert f"validation faces choose the {chosen}: its test error is 9.50 years" in found


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.3, -0.1, "better than"), (0.1, 0.3, "worse than"), (-0.1, 0.1, "not told apart from")],
)
def test_an_ensemble_is_judged_by_the_paired_interval(complete, evaluated, best_ensemble, low, high, verdict):
    changed = with_differences(evaluated, best_ensemble, SINGLE, low, high)
    assert f", {verdict} the single model (face by face" in summary.sentences(complete, changed)[4]


def test_the_optimism_of_choosing_on_test_is_told(complete, evaluated):
    choices = evaluated.choices.copy()
    last = choices.index[-1]
    choices.loc[last, ["validation_choice", "test_choice"]] = [2.5, 2.25]
    told = summary.sentences(complete, dataclasses.replace(evaluated, choices=choices))[3]
    assert "would have claimed 2.25: 0.25 too good" in told


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (
            -0.06,
            -0.04,
            "the fixed learning rate gives a lower error than the learning rate from the finder: ",
        ),
        (
            -0.15,
            0.05,
            "no difference is shown between the fixed learning rate and the learning rate from the ",
        ),
        (math.nan, math.nan, "no difference is shown between the fixed learning rate and "),
    ],
)
def test_policies_are_judged_by_the_paired_interval(complete, evaluated, low, high, verdict):
    pooled = evaluated.pooled.assign(iqm=[2.0, 2.05], iqm_low=[1.9, 1.95], iqm_high=[2.1, 2.15], left_out="")
    row = {"first": "fixed", "second": "found", "difference": -0.05, "low": low, "high": high}
    changed = dataclasses.replace(evaluated, pooled=pooled, policies=evaluated.policies.assign(**row))
    told = summary.sentences(complete, changed)[2]
    assert told.startswith(f"Over the same seeds of the same optimisers {verdict}")
    assert told.endswith(
        f"seed by seed -0.05 years, 95% interval over seeds {low:+.2f} to {high:+.2f}, with errors of 2.00 "
        "and 2.05 (interquartile means)."
    )


def test_policies_without_a_common_sound_seed_are_not_compared(complete, evaluated):
    told = summary.sentences(complete, dataclasses.replace(evaluated, policies=evaluated.policies[:0]))[2]
    assert told.startswith("The policies are not compared")


def test_one_policy_is_not_compared_with_itself(complete):
    fixed = dataclasses.replace(complete, runs=complete.runs[:2])
    found = summary.sentences(fixed, evaluate(fixed, Settings(resamples=10)))
    assert not any("olic" in sentence or "Over the same seeds" in sentence for sentence in found)
