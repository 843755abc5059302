import dataclasses

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.curves import learning_curves, quartiles
from pipeline.evaluation.results import Results


def curve_of(complete: Results, run: int, history: pd.DataFrame) -> pd.DataFrame:
    changed = dataclasses.replace(complete.runs[run], history=history)
    return learning_curves(dataclasses.replace(complete, runs=(changed,))).set_index("epoch")


def test_a_curve_ends_where_fewer_than_half_of_the_members_still_train(complete):
    history = complete.runs[0].history
    # Members 0, 1 and 2 of six train for 8, 7 and 6 epochs.
    assert curve_of(complete, 0, history[(history["member"] < 3) | (history["epoch"] <= 4)]).index.max() == 6
    history = history[(history["member"] < 2) | (history["epoch"] <= 4)]
    curve = curve_of(complete, 0, history)
    assert curve.index.max() == 4
    third = history[history["epoch"] == 3]
    assert curve.loc[3, "val_loss"] == pytest.approx(np.median(third["val_loss"]))
    assert curve.loc[3, "val_low"] == pytest.approx(np.quantile(third["val_loss"], 0.25))
    assert curve.loc[3, "val_high"] == pytest.approx(np.quantile(third["val_loss"], 0.75))
    assert curve.loc[3, "train_loss"] == pytest.approx(np.median(third["train_loss"]))


def test_a_diverged_member_takes_no_part(complete):
    history = complete.runs[1].history.copy()
    history.loc[history["member"] == 2, ["train_loss", "val_loss"]] = 1e30
    assert curve_of(complete, 1, history)[["train_loss", "val_high"]].max(axis=None) < 1e3


def test_a_run_in_which_all_diverged_has_no_curve(complete):
    run = complete.runs[0]
    lost = dataclasses.replace(run, scores=run.scores.assign(diverged=True))
    assert learning_curves(dataclasses.replace(complete, runs=(lost,))).empty


def test_losses_that_are_not_finite_are_no_part_of_a_quartile():
    rows = pd.DataFrame({"lr": [1.0, 1.0, 1.0, 2.0], "loss": [1.0, 3.0, np.inf, np.nan]})
    found = quartiles(rows, "lr", "loss", members=3)
    assert found.index.tolist() == [1.0]
    assert found.loc[1.0].tolist() == [1.5, 2.0, 2.5]
