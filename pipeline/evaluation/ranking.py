"""Which way to train is the best: by validation error, among those that seldom diverge."""

from typing import Any

import pandas as pd

TOLERATED = 0.1


def competing(runs: pd.DataFrame) -> "pd.Series[bool]":
    """Which runs take part in the choice of the best way to train.

    Those of which at most a tenth of the models diverged; where there are none, those of which the smallest
    share did. A mean over the models that did not diverge says nothing of those that did: a way to train that
    loses most of its models must not win by the one that it keeps.

    Parameters
    ----------
    runs
        Rows of `Evaluation.summary`, of one measure: `members` ended well, `diverged` did not.

    Examples
    --------
    >>> competing(pd.DataFrame({"members": [1, 19, 20], "diverged": [19, 1, 0]})).tolist()
    [False, True, True]
    >>> competing(pd.DataFrame({"members": [1, 10], "diverged": [19, 10]})).tolist()
    [False, True]
    """
    share = runs["diverged"] / (runs["members"] + runs["diverged"])
    fine: pd.Series[bool] = share <= max(TOLERATED, share.min())
    return fine


def best_run(summary: pd.DataFrame) -> "pd.Series[Any] | None":
    """The row of the run with the lowest mean validation error of those competing; None if all diverged."""
    rows = summary[summary["measure"] == "val_mae"]
    rows = rows[competing(rows) & rows["mean"].notna()]
    return None if rows.empty else rows.iloc[int(rows["mean"].argmin())]


def best_tested(summary: pd.DataFrame) -> "pd.Series[Any]":
    """The test errors of `best_run`, of an evaluation in which some model ended well."""
    best = best_run(summary)
    if best is None:
        raise ValueError("no best way to train: every model diverged")
    same = (summary["policy"] == best["policy"]) & (summary["optimizer"] == best["optimizer"])
    rows = summary[same & (summary["measure"] == "test_mae")]
    row: pd.Series[Any] = rows.iloc[0]
    return row


def spread(row: "pd.Series[Any]") -> str:
    """A mean with its standard deviation; of a single model, which has none, the number alone."""
    return f"{row['mean']:.2f}" + ("" if pd.isna(row["std"]) else f" ± {row['std']:.2f}")
