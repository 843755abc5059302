"""Errors by group as tables of the report."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from pipeline.evaluation.group_errors import TARGET
from pipeline.evaluation.numbers import Evaluation
from pipeline.evaluation.settings import OVER, Settings
from pipeline.evaluation.table import Column, Table

INTERVAL = f"from, to: 95% intervals {OVER}."


def titled(settings: Settings) -> Callable[[str], str]:
    """A column as the reader calls it: the binned target by its own name."""
    return lambda column: settings.target if column == TARGET else column


def best_title(evaluation: Evaluation) -> str:
    """The contender that is best on validation."""
    rows = evaluation.contenders
    return str(rows.loc[rows["best"], "title"].iloc[0])


def group_columns(settings: Settings) -> tuple[Column, ...]:
    """How rows of errors by group read."""
    return (
        Column("column", "by", titled(settings)),
        Column("group", "group"),
        Column("faces", "test faces", ",d"),
        Column("mae", f"MAE ({settings.unit})", ".3f"),
        Column("low", "from", ".3f"),
        Column("high", "to", ".3f"),
    )


def best_groups(evaluation: Evaluation) -> Table:
    """The error by group of the contender that is best on validation."""
    title = best_title(evaluation)
    frame = evaluation.groups[evaluation.groups["title"] == title].reset_index(drop=True)
    return Table(
        "groups_best",
        f"Test error by group: {title}",
        frame,
        group_columns(evaluation.settings),
        f"The way of predicting that is best on validation. {INTERVAL} A group of few faces has a wide one.",
    )


def all_groups(evaluation: Evaluation) -> Table:
    """The error by group of every contender."""
    columns = (Column("title", "prediction by"), *group_columns(evaluation.settings))
    return Table(
        "groups", "Test error by group, every way of predicting", evaluation.groups, columns, long=True
    )


def biases(evaluation: Evaluation) -> Table:
    """The bias scores of every contender, column by column: Tables 7 to 11 of the age-bias report."""
    settings = evaluation.settings
    frame = pd.DataFrame({"title": evaluation.biases["title"].unique()})
    frame["mae"] = frame["title"].map(evaluation.contenders.set_index("title")["mae"])
    columns = [
        Column("title", "prediction by"),
        Column("mae", f"MAE ({settings.unit})", ".3f", best="lowest"),
    ]
    for name, rows in evaluation.biases.groupby("column", sort=False):
        own = rows.set_index("title").loc[frame["title"]]
        heading = f"bias by {titled(settings)(str(name))}"
        for key, label in (("bias", "score"), ("low", "from"), ("high", "to"), ("chance", "chance")):
            frame[f"{name}_{key}"] = own[key].to_numpy(dtype=np.float64)
            columns.append(Column(f"{name}_{key}", label, ".3f", heading, "lowest" if key == "bias" else ""))
    return Table(
        "bias",
        f"Bias scores in {settings.unit}: how far the errors of groups are apart",
        frame,
        tuple(columns),
        "The mean over all pairs of groups of the difference of their MAEs; faces of unknown group are left "
        f"out. {INTERVAL} Chance: what groups of these sizes would stay below in 95 of 100 samples if all "
        "had the same error; a score below it shows no difference. Noise only ever raises a score, in "
        "resamples once more, so that an interval may lie above its score where groups are small. "
        "Chance is that of one column alone: of many, one in twenty exceeds it. The finding at the "
        "top minds how many there are.",
        frozenset(np.flatnonzero(frame["title"] == best_title(evaluation)).tolist()),
    )


def fairness(frame: pd.DataFrame, unit: str) -> Table:
    """Tables 8 to 11 of the age-bias report as one, from `metrics.bias.fairness_table`."""
    columns = [Column("loss", "loss"), Column("weighting", "weighted by"), Column("models", "models", "d")]
    measured = [name.removesuffix("_std") for name in map(str, frame) if name.endswith("_std")]
    for name in measured:
        heading = f"MAE ({unit})" if name == "mae" else f"bias by {name.removesuffix('_bias')}"
        columns.append(Column(name, "mean", ".3f", heading, "lowest"))
        columns.append(Column(f"{name}_std", "std", ".3f", heading))
    return Table(
        "fairness",
        "Losses and weightings: error and bias scores",
        frame,
        tuple(columns),
        "Mean and standard deviation over seeds, on test faces.",
    )
