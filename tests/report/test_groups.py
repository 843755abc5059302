import dataclasses

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import UserError
from pipeline.evaluation import group_tables, summary, table
from pipeline.evaluation.candidates import contenders
from pipeline.evaluation.group_errors import group_columns
from pipeline.evaluation.networks.results import group_columns as network_columns
from pipeline.evaluation.numbers import evaluate
from pipeline.evaluation.results import Results
from pipeline.evaluation.settings import Settings
from pipeline.metrics.bias import bias_score, fairness_table
from pipeline.metrics.distributions import mean_interval
from pipeline.metrics.groups import age_bins
from pipeline.report import figures, page, paper_tables
from pipeline.report.charts import Intervals
from pipeline.report.sections import build_page


@pytest.fixture(scope="module")
def grouped(complete: Results) -> Results:
    """Faces with a second group column, partly unknown, one of too many values, and one of numbers."""
    count = len(complete.faces)
    ethnicity = np.where(np.arange(count) % 7 == 0, None, np.array(["a", "b", "c"])[np.arange(count) % 3])
    faces = complete.faces.assign(
        ethnicity=pd.Series(ethnicity, dtype="str"),
        note=[f"n{k}" for k in range(count)],
        yaw=np.linspace(-9, 9, count),
    )
    return dataclasses.replace(complete, faces=faces)


@pytest.fixture(scope="module")
def found(grouped: Results):
    return evaluate(grouped, Settings(resamples=200, group_edges=(10, 20)))


def test_text_columns_of_few_values_and_the_binned_target_are_groups(grouped):
    assert list(group_columns(grouped, Settings())) == ["gender", "ethnicity", "target"]
    assert list(group_columns(grouped, Settings(group_edges=()))) == ["gender", "ethnicity"]
    assert list(group_columns(grouped, Settings(groups=["note"], group_edges=()))) == ["note"]
    assert list(group_columns(grouped, Settings(groups=[], group_edges=()))) == []
    with pytest.raises(UserError, match=r"evaluate.groups names 'yaw': .* are gender, ethnicity, note"):
        group_columns(grouped, Settings(groups=["yaw"]))


def test_errors_by_group_equal_a_slow_computation(grouped, found):
    test = grouped.rows("test")
    faces = grouped.faces[test].reset_index(drop=True)
    for contender in contenders(grouped):
        errors = pd.Series(np.abs(contender.prediction[test] - faces["target"].to_numpy()))
        for column in ("gender", "ethnicity"):
            rows = found.groups[
                (found.groups["title"] == contender.title) & (found.groups["column"] == column)
            ].set_index("group")
            names = faces[column].fillna("unknown")
            expected = errors.groupby(names.to_numpy()).mean()
            assert rows["mae"].to_dict() == pytest.approx(expected.to_dict())
            assert rows["faces"].to_dict() == names.value_counts().to_dict()
            assert (rows["low"] < rows["mae"]).all()


def test_bias_scores_are_those_of_the_metric_for_every_contender(grouped, found):
    test = grouped.rows("test")
    target = grouped.target("test")
    columns = {
        "gender": grouped.faces["gender"][test],
        "ethnicity": grouped.faces["ethnicity"][test],
        "target": age_bins(target, (10, 20)),
    }
    assert len(found.biases) == 3 * len(found.contenders)
    for contender in contenders(grouped):
        rows = found.biases[found.biases["title"] == contender.title].set_index("column")
        for name, column in columns.items():
            expected = bias_score(contender.prediction[test], target, column)
            assert rows.loc[name, "bias"] == pytest.approx(float(expected))
    known = int(columns["ethnicity"].notna().sum())
    assert set(found.biases.loc[found.biases["column"] == "ethnicity", "faces"]) == {known}


def test_the_table_of_biases_has_one_row_a_contender_and_marks_the_best_on_validation(found):
    made = group_tables.biases(found)
    assert made.frame["title"].tolist() == found.contenders["title"].tolist()
    assert made.frame["mae"].tolist() == pytest.approx(found.contenders["mae"].tolist())
    assert made.marked == frozenset(np.flatnonzero(found.contenders["best"]).tolist())
    headings = [column.group for column in made.columns if column.label == "score"]
    assert headings == ["bias by gender", "bias by ethnicity", "bias by age"]


def test_the_groups_are_in_the_tables_the_figures_the_metrics_and_on_the_page(grouped, found, tmp_path):
    table.write(paper_tables.all_tables(found), tmp_path)
    written = pd.read_csv(tmp_path / "groups.csv")
    assert set(written["column"]) == {"gender", "ethnicity", "target"}
    assert (tmp_path / "bias.csv").exists()
    best = group_tables.best_title(found)
    scores = found.biases[found.biases["title"] == best].set_index("column")["bias"]
    assert summary.metrics(found)["bias"] == pytest.approx(scores.to_dict(), abs=1e-6)
    chart = figures.group_errors(found)
    assert [mark.name for mark in chart.marks if isinstance(mark, Intervals)] == [
        "gender",
        "ethnicity",
        "age",
    ]
    assert "age: <10" in chart.y.categories
    text = page.render(build_page(grouped, found, dataset="faces"))
    for part in ("Error by group", "ethnicity", "unknown", "bias by gender", "test faces"):
        assert part in text


def test_without_groups_nothing_is_shown(complete):
    bare = evaluate(complete, Settings(resamples=10, groups=[], group_edges=()))
    assert bare.groups.empty
    assert "bias" not in summary.metrics(bare)
    names = {made.name for made in paper_tables.all_tables(bare)}
    assert not names & {"groups", "bias"}
    titles = [section.title for section in build_page(complete, bare, dataset="x").sections]
    assert "Error by group" not in titles
    assert not any("between groups" in sentence for sentence in summary.sentences(complete, bare))


def test_the_findings_say_whether_a_difference_is_beyond_chance(complete, evaluated):
    rows = evaluated.biases.assign(bias=1.0, chance=2.0, joint=2.0)
    quiet = summary.sentences(complete, dataclasses.replace(evaluated, biases=rows))[-1]
    assert quiet.startswith("Nothing shows that the error of the ")
    assert "most by gender: over all pairs of 2 groups by 1.00 years" in quiet
    rows = evaluated.biases.assign(bias=3.0, chance=2.0, joint=2.0)
    loud = summary.sentences(complete, dataclasses.replace(evaluated, biases=rows))[-1]
    assert loud.startswith("The error of the ")
    assert "would stay below 2.00" in loud


def test_the_largest_of_several_columns_is_judged_by_the_largest_that_chance_gives(grouped, found):
    judged = found.biases[found.biases["column"] != "target"]
    assert (judged["joint"] > judged["chance"]).all()
    assert found.biases.loc[found.biases["column"] == "target", "joint"].isna().all()
    between = found.biases.assign(bias=(found.biases["chance"] + found.biases["joint"]) / 2)
    said = summary.sentences(grouped, dataclasses.replace(found, biases=between))[-1]
    assert said.startswith("Nothing shows that the error of the ")
    assert "equal groups of these sizes, the largest of 2 columns, would stay below" in said


def test_one_column_alone_is_judged_by_its_own_chance(evaluated):
    rows = evaluated.biases[evaluated.biases["column"] == "gender"]
    np.testing.assert_allclose(rows["joint"], rows["chance"])


def test_the_fairness_table_reads_as_the_reports_tables_8_to_11():
    target = np.linspace(1, 80, 60)
    gender = np.where(np.arange(60) % 2, "f", "m")
    stack = target + np.random.default_rng(0).normal(0, 3, (3, 60))
    frame = fairness_table(
        {("mse", "none"): stack, ("mse", "gender"): stack + 1},
        target,
        {"age": age_bins(target), "gender": gender},
    )
    made = group_tables.fairness(frame, "years")
    assert [(column.group, column.label) for column in made.columns] == [
        ("", "loss"),
        ("", "weighted by"),
        ("", "models"),
        ("MAE (years)", "mean"),
        ("MAE (years)", "std"),
        ("bias by age", "mean"),
        ("bias by age", "std"),
        ("bias by gender", "mean"),
        ("bias by gender", "std"),
    ]


def test_subjects_are_no_groups_but_whom_intervals_are_over(grouped, found):
    test = grouped.rows("test")
    best = group_tables.best_title(found)
    prediction = next(one.prediction for one in contenders(grouped) if one.title == best)
    wrong = np.abs(prediction - grouped.faces["target"])
    who = pd.Series(wrong.rank().floordiv(20).map("s{:.0f}".format), dtype="str")  # alike within a subject
    known = dataclasses.replace(grouped, faces=grouped.faces.assign(subject=who.mask(who == "s0")))
    assert 2 <= known.faces["subject"].nunique() <= 20, "few enough to be taken for groups"
    assert list(group_columns(known, Settings())) == ["gender", "ethnicity", "target"]
    with pytest.raises(UserError, match=r"evaluate.groups names 'subject': .* are gender, ethnicity, note"):
        group_columns(known, Settings(groups=["subject"]))
    assert network_columns(known.faces, Settings()) == ["gender", "ethnicity"]

    settings = Settings(resamples=200, group_edges=(10, 20))
    judged = evaluate(known, settings)
    subjects = known.faces["subject"][test]
    errors = wrong[test]
    row = judged.contenders.set_index("title").loc[best]
    assert (row["low"], row["high"]) == pytest.approx(mean_interval(errors, subjects)[1:])
    before = found.contenders.set_index("title").loc[best]
    assert row["high"] - row["low"] > 1.5 * (before["high"] - before["low"])
    assert row["mae"] == before["mae"]
    for column, name in (("gender", "female"), ("target", "10-20")):
        here = np.asarray(group_columns(known, settings)[column][test] == name)
        rows = judged.groups[(judged.groups["title"] == best) & (judged.groups["column"] == column)]
        low, high = rows.set_index("group").loc[name, ["low", "high"]]
        assert (low, high) == pytest.approx(mean_interval(errors[here], subjects[here])[1:])
    pair = judged.differences.iloc[0]
    first, second = (
        next(one.prediction for one in contenders(known) if one.title == pair[key])[test]
        for key in ("first", "second")
    )
    target = known.target("test")
    behind = np.abs(first - target) - np.abs(second - target)
    assert (pair["low"], pair["high"]) == pytest.approx(mean_interval(behind, subjects)[1:])
    scores = judged.biases.set_index(["title", "column"])
    earlier = found.biases.set_index(["title", "column"])
    pd.testing.assert_series_equal(scores["bias"], earlier["bias"])
    assert not np.allclose(scores["chance"], earlier["chance"], rtol=0.05)
