"""Tables as what trackers take: numbers of a whole run, and numbers by step."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

Steps = Iterator[tuple[int, dict[str, float]]]


def overall(scores: pa.Table, columns: Sequence[str]) -> dict[str, float]:
    """Mean, spread and best of each column over the members that did not diverge, and how many did.

    Examples
    --------
    >>> overall(pa.table({"val_mae": [1.0, 3.0, None], "diverged": [False, False, True]}), ["val_mae"])
    {'models': 3, 'diverged': 1, 'val_mae/mean': 2.0, 'val_mae/std': 1.414..., 'val_mae/min': 1.0}
    """
    frame = scores.to_pandas()
    told: dict[str, float] = {"models": len(frame), "diverged": int(frame["diverged"].sum())}
    for name in columns:
        values = frame.loc[~frame["diverged"].to_numpy(dtype=bool), name].astype(float)
        statistics = {"mean": values.mean(), "std": values.std(), "min": values.min()}
        told |= {f"{name}/{key}": float(value) for key, value in statistics.items() if np.isfinite(value)}
    return told


def by_row(table: pa.Table, step: str, columns: Sequence[str], group: str, **more: Sequence[float]) -> Steps:
    """One step a row: its finite numbers, as `group/column`.

    Examples
    --------
    >>> list(by_row(pa.table({"member": [0, 1], "lr": [0.1, None]}), "member", ["lr"], "members"))
    [(0, {'members/lr': 0.1}), (1, {})]
    """
    frame = table.select([step, *columns]).to_pandas().assign(**more)
    numbers = [name for name in (*columns, *more) if pd.api.types.is_numeric_dtype(frame[name])]
    for row in frame.to_dict("records"):
        yield (
            int(row[step]),
            {f"{group}/{name}": float(row[name]) for name in numbers if np.isfinite(row[name])},
        )


def by_epoch(history: pa.Table) -> Steps:
    """One step an epoch: the mean over the members that still train, as `epochs/column`, and their number.

    Examples
    --------
    >>> table = pa.table({"epoch": [1, 1, 2], "train_loss": [2.0, 4.0, 1.0], "val_loss": [3.0, 5.0, 2.0],
    ...                   "val_mae": [1.0, 3.0, 1.0]})
    >>> list(by_epoch(table))[0]
    (1, {'epochs/train_loss': 3.0, 'epochs/val_loss': 4.0, 'epochs/val_mae': 2.0, 'epochs/models': 2.0})
    """
    groups = history.to_pandas().groupby("epoch")
    columns = ["train_loss", "val_loss", "val_mae"]
    means = groups[columns].mean().assign(models=groups.size())
    for epoch, row in means.iterrows():
        yield (
            int(str(epoch)),
            {f"epochs/{name}": float(value) for name, value in row.items() if np.isfinite(value)},
        )
