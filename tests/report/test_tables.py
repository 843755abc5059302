import csv
import dataclasses
import io

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation import table
from pipeline.evaluation.numbers import evaluate
from pipeline.evaluation.settings import Settings
from pipeline.evaluation.table import Column, Table
from pipeline.report import paper_tables


@pytest.fixture(scope="module")
def named(evaluated) -> dict[str, Table]:
    return {made.name: made for made in paper_tables.all_tables(evaluated)}


def test_tables_2_and_3_have_the_papers_columns_first(named):
    for name in ("table2_fixed", "table3_found"):
        columns = named[name].columns
        assert [(column.group, column.label) for column in columns[:10]] == [
            ("", "optimiser"),
            *(
                (f"{split} MAE", s)
                for split in ("training", "validation", "test")
                for s in ("min", "mean", "std")
            ),
        ]


def test_table_2_holds_each_optimizers_statistics(named, evaluated):
    frame = named["table2_fixed"].frame.set_index("optimiser")
    sgd = evaluated.members[
        (evaluated.members["policy"] == "fixed") & (evaluated.members["optimizer"] == "sgd")
    ]
    assert frame.loc["SGD", "val_mae_mean"] == pytest.approx(sgd["val_mae"].mean())
    assert frame.loc["SGD", "mae_std"] == pytest.approx(sgd["mae"].std(ddof=1))
    assert (frame.loc["SGD", "members"], frame.loc["SGD", "diverged"]) == (5, 1)
    assert frame["wins"].sum() == 9, "every column has one lowest number here"


def test_tables_4_and_5_list_every_seed_and_mark_the_three_best_on_validation(named):
    made = named["table4_fixed"]
    assert [column.label for column in made.columns] == [
        "id", "seed", "learning rate", "validation MAE", "test MAE", "epochs", "top three on",
    ]  # fmt: skip
    assert len(made.frame) == 6
    best = sorted(range(6), key=lambda row: made.frame["val_mae"][row])[:3]
    assert made.marked == frozenset(best)
    for row in range(6):
        assert ("validation" in made.frame["top"][row]) == (row in best)
    tested = sorted(range(6), key=lambda row: made.frame["test_mae"][row])[:3]
    assert [f"test ({rank})" in made.frame["top"][row] for rank, row in enumerate(tested, 1)] == [True] * 3


def test_seconds_are_shown_only_where_they_are_known(complete, named):
    timed = dataclasses.replace(
        complete,
        runs=tuple(
            dataclasses.replace(run, seconds=np.arange(6.0), stage_seconds=7.0) for run in complete.runs
        ),
    )
    evaluated = evaluate(timed, Settings(resamples=10))
    assert "seconds" in [column.key for column in paper_tables.winners(evaluated, "fixed").columns]
    assert "seconds" not in [column.key for column in named["table4_fixed"].columns]
    times = paper_tables.times(evaluated).frame
    assert times["mean"].tolist() == [2.5] * 4
    assert times["total"].tolist() == [7.0] * 4, "as the log says, and not the sum over cores"


def test_a_policy_the_paper_does_not_have_gets_no_number_of_the_paper(complete):
    run = dataclasses.replace(complete.runs[0], policy="tuned")
    evaluated = evaluate(dataclasses.replace(complete, runs=(run,)), Settings(resamples=10))
    names = [made.name for made in paper_tables.all_tables(evaluated)]
    assert names[:2] == ["statistics_tuned", "models_tuned"]


def test_csv_is_read_back_with_six_digits(named, tmp_path):
    table.write(list(named.values()), tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == set(named)
    for name, made in named.items():
        frame = pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False, na_values=[""])
        assert list(frame.columns) == [column.key for column in made.columns]
        assert len(frame) == len(made.frame)
    members = pd.read_csv(tmp_path / "members.csv")
    np.testing.assert_allclose(members["test_mae"], named["members"].frame["test_mae"], rtol=1e-5)


def test_csv_has_fixed_formatting(tmp_path):
    frame = pd.DataFrame({"a": [1 / 3, np.nan, 1e-8], "b": ["x,y", "", "é"], "c": [1, 2, 3]})
    table.write([Table("t", "", frame, (Column("a", "A"), Column("b", "B"), Column("c", "C")))], tmp_path)
    data = (tmp_path / "t.csv").read_bytes()
    assert data == 'a,b,c\n0.333333,"x,y",1\n,,2\n1e-08,é,3\n'.encode()
    assert len(list(csv.reader(io.StringIO(data.decode())))) == 4


def test_cells_are_formatted_and_a_dash_stands_for_no_number():
    frame = pd.DataFrame({"x": [1.234, np.nan], "flag": [True, False], "name": ["adam", "sgd"]})
    made = Table(
        "t", "", frame, (Column("x", "x", ".2f"), Column("flag", "f"), Column("name", "n", str.upper))
    )
    assert [made.cells(column) for column in made.columns] == [["1.23", "–"], ["yes", "no"], ["ADAM", "SGD"]]


def test_the_best_number_of_a_column_is_marked_in_its_direction():
    frame = pd.DataFrame({"x": [np.nan, 3.0, 1.0, 2.0]})
    for best, row in (("lowest", 2), ("highest", 1), ("", None)):
        assert Table("t", "", frame, ()).best(Column("x", "x", best=best)) == row
    assert Table("t", "", frame[:1], ()).best(Column("x", "x", best="lowest")) is None
