"""Curves over the members of a run: what the typical one did, while enough of them still took part."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pipeline.evaluation.results import Results, Run

LIVING = 0.5  # a curve ends where fewer than this share of the members still take part


def quartiles(rows: pd.DataFrame, by: str, column: str, members: int) -> pd.DataFrame:
    """By each value of one column another's `low`, `median` and `high` (quartiles) over finite rows.

    Values that fewer than half of the members reach are left out: a median over the last survivors
    would show who survived.
    """
    steps = rows[np.isfinite(rows[column])].groupby(by)[column]
    found = pd.DataFrame(
        {"low": steps.quantile(0.25), "median": steps.median(), "high": steps.quantile(0.75)}
    )
    kept: pd.DataFrame = found[steps.count() >= max(1, LIVING * members)]
    return kept


def learning_curves(results: Results) -> pd.DataFrame:
    """One row for each run and epoch: both losses' median, and the quartiles of the validation loss."""
    rows = [row for run in results.runs for row in run_rows(run)]
    names = ["policy", "optimizer", "run", "epoch", "train_loss", "val_loss", "val_low", "val_high"]
    return pd.DataFrame(rows, columns=names)


def run_rows(run: Run) -> Iterator[dict[str, object]]:
    """The rows of `learning_curves` for one run; diverged members take no part."""
    sound = run.scores.loc[~run.scores["diverged"].to_numpy(dtype=bool), "member"]
    history = run.history[run.history["member"].isin(sound)]
    train = quartiles(history, "epoch", "train_loss", len(sound))
    validation = quartiles(history, "epoch", "val_loss", len(sound))
    for epoch, losses in validation.iterrows():
        yield {
            "policy": run.policy,
            "optimizer": run.optimizer,
            "run": f"{run.policy}/{run.optimizer}",
            "epoch": epoch,
            "train_loss": train["median"].get(epoch, np.nan),
            "val_loss": losses["median"],
            "val_low": losses["low"],
            "val_high": losses["high"],
        }
