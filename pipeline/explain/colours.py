"""Which faces are laid out on a plane, and what each is coloured by."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from pipeline.core.errors import UserError

HIDDEN = ("face_id", "path", "vector", "target")


def coloured(
    table: pa.Table,
    colour: str,
    count: int,
    seed: int,
    predicted: Callable[[], Mapping[str, float]],
    target: str = "target",
) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """Draw faces, and give each a number or a text as its colour.

    Parameters
    ----------
    table
        face_id, the target and group columns.
    colour
        `target`; `error`, the size of the prediction's error, for which faces without a prediction are left
        out; or a group column.
    count
        How many faces at most.
    seed
        Of the draw.
    predicted
        Gives predictions by face_id; asked for errors only.
    target
        The column with the true number.

    Returns
    -------
    ndarray, list
        Rows of the table in ascending order, and their colours.

    Raises
    ------
    UserError
        If there is no such column.

    Examples
    --------
    >>> table = pa.table({"face_id": ["a", "b", "c"], "target": [30.0, 40.0, 50.0]})
    >>> coloured(table, "error", 3, 0, lambda: {"a": 32.0, "c": 45.0})
    (array([0, 2]), [2.0, 5.0])
    """
    known = [name for name in table.column_names if name not in HIDDEN]
    if colour not in ("target", "error", *known):
        raise UserError(f"faces cannot be coloured by {colour!r}: choose target, error, {', '.join(known)}")
    numeric = colour in ("target", "error")
    values = table[target if numeric else colour].to_pylist()
    rows = np.arange(table.num_rows)
    if colour == "error":
        errors = errors_of(table["face_id"].to_pylist(), values, predicted())
        rows, values = np.flatnonzero(np.isfinite(errors)), errors.tolist()
    order = np.random.default_rng(seed).permutation(len(rows))[:count]
    chosen = np.sort(rows[order])
    shown = [values[row] for row in chosen]
    return chosen, [float(v) if numeric else str("unknown" if v is None else v) for v in shown]


def errors_of(
    face_ids: list[str], targets: list[float], predicted: Mapping[str, float]
) -> npt.NDArray[np.float64]:
    """The sizes of predictions' errors, (N,); NaN where nothing is predicted."""
    values = np.array([predicted.get(face, np.nan) for face in face_ids], dtype=np.float64)
    return np.asarray(np.abs(values - np.asarray(targets, dtype=np.float64)))


def mean_predictions(predictions: pa.Table) -> dict[str, float]:
    """The mean prediction of all members for every face that they were asked about.

    Examples
    --------
    >>> mean_predictions(pa.table({"face_id": ["a", "a"], "prediction": [1.0, 3.0]}))
    {'a': 2.0}
    """
    frame = predictions.select(["face_id", "prediction"]).to_pandas()
    means: pd.Series[float] = frame.groupby("face_id")["prediction"].mean()
    return {str(face): float(value) for face, value in means.items()}
