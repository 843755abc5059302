"""The test error by group of faces, and how far groups are apart: rows of the evaluation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core.errors import UserError
from pipeline.core.seeds import derive_seed
from pipeline.core.tables import SUBJECT
from pipeline.evaluation.candidates import Contender, contenders
from pipeline.evaluation.results import FACES, FloatArray, Results
from pipeline.evaluation.settings import Settings
from pipeline.metrics.bias import Bias, bias, joint_factor
from pipeline.metrics.clusters import Integers
from pipeline.metrics.groups import age_bins, group_errors

# A text column with more values than this is not taken for a group unless it is asked for by name.
MOST = 20
TARGET = "target"
GROUPS = ["title", "kind", "column", "group", "faces", "mae", "low", "high"]
BIASES = ["title", "kind", "column", "groups", "faces", "bias", "low", "high", "chance", "joint"]


def group_columns(results: Results, settings: Settings) -> dict[str, Any]:
    """The groups of all faces by column: text columns, and the target in bins under the name `target`.

    Raises
    ------
    UserError
        The settings name a column that the faces have not.
    """
    faces = results.faces
    others = [name for name in map(str, faces) if name not in (*FACES.names, SUBJECT)]
    texts = [name for name in others if pd.api.types.is_string_dtype(faces[name])]
    wanted = settings.groups
    if wanted is None:
        wanted = [name for name in texts if 2 <= faces[name].nunique() <= MOST]
    for name in wanted:
        if name not in texts:
            known = ", ".join(texts) or "none"
            raise UserError(f"evaluate.groups names {name!r}: the group columns of the faces are {known}")
    columns: dict[str, Any] = {name: faces[name].where(faces[name].notna(), None) for name in wanted}
    if settings.group_edges:
        columns[TARGET] = pd.Series(age_bins(faces["target"], settings.group_edges))
    return columns


def group_tables(results: Results, settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row for each contender, column and group; and one for each contender and column, its bias score."""
    test, subjects = results.rows("test"), results.subjects("test")
    columns = {name: column[test] for name, column in group_columns(results, settings).items()}
    rows: list[dict[str, Any]] = []
    scores: list[dict[str, Any]] = []
    for contender in contenders(results):
        prediction = contender.prediction[test]
        for name, column in columns.items():
            rows += error_rows(contender, name, prediction, results.target("test"), column, subjects)
        found = {
            name: bias(
                prediction,
                results.target("test"),
                column,
                subjects=subjects,
                seed=derive_seed(settings.seed, "bias", contender.title, name),
                resamples=settings.resamples,
            )
            for name, column in columns.items()
        }
        factor = joint_factor([one for name, one in found.items() if name != TARGET])
        scores += [
            bias_row(contender, name, int(columns[name].notna().sum()), one, factor)
            for name, one in found.items()
        ]
    return pd.DataFrame(rows, columns=GROUPS), pd.DataFrame(scores, columns=BIASES)


def names_of(contender: Contender, column: str) -> Mapping[str, Any]:
    """What both tables begin with."""
    return {"title": contender.title, "kind": contender.kind, "column": column}


def error_rows(
    contender: Contender,
    name: str,
    prediction: FloatArray,
    target: FloatArray,
    column: Any,
    subjects: Integers | None,
) -> list[dict[str, Any]]:
    """The rows of one contender and column."""
    found = group_errors(prediction, target, column, subjects)
    return [
        {
            **names_of(contender, name),
            "group": group,
            "faces": int(faces),
            "mae": mae,
            "low": low,
            "high": high,
        }
        for group, faces, mae, low, high in zip(*found, strict=True)
    ]


def bias_row(contender: Contender, name: str, faces: int, found: Bias, factor: float) -> dict[str, Any]:
    """The row of one contender's bias score by one column; the binned target has no part in `joint`."""
    return {
        **names_of(contender, name),
        "groups": found.groups,
        "faces": faces,
        "bias": found.score,
        "low": found.low,
        "high": found.high,
        "chance": found.chance,
        "joint": np.nan if name == TARGET else found.chance * factor,
    }


def largest_bias(biases: pd.DataFrame, title: str) -> "pd.Series[Any] | None":
    """Of one contender, the column whose groups differ most for their number of faces; None without any.

    Being the largest of several, its score is judged by `joint` and not by `chance`.
    """
    rows = biases[(biases["title"] == title) & (biases["chance"] > 0) & (biases["column"] != TARGET)]
    if rows.empty:
        return None
    return rows.iloc[int((rows["bias"] / rows["chance"]).argmax())]
