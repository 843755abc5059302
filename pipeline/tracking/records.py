"""Tables and trees as what trackers take: numbers of a whole run, and numbers by step."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

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


def numbers(tree: Mapping[str, Any], above: str = "") -> dict[str, float]:
    """The finite numbers of a tree of metrics, by the path to each; what MLflow refuses in it becomes `_`.

    Examples
    --------
    >>> numbers({"fixed": {"adam": {"mae": 4.5}}, "bias": {"age ≥ 60": 1}, "note": "words"})
    {'fixed/adam/mae': 4.5, 'bias/age _ 60': 1.0}
    """
    found: dict[str, float] = {}
    for name, value in tree.items():
        path = above + re.sub(r"[^\w.\- :/]", "_", str(name))
        if isinstance(value, Mapping):
            found |= numbers(value, f"{path}/")
        elif isinstance(value, int | float) and np.isfinite(value):
            found[path] = float(value)
    return found


def by_row(table: pa.Table, step: str, columns: Sequence[str], group: str, **more: Sequence[float]) -> Steps:
    """One step a row: its finite numbers, as `group/column`.

    Examples
    --------
    >>> list(by_row(pa.table({"member": [0, 1], "lr": [0.1, None]}), "member", ["lr"], "members"))
    [(0, {'members/lr': 0.1}), (1, {})]
    """
    frame = table.select([step, *columns]).to_pandas().assign(**more)
    numeric = [name for name in (*columns, *more) if pd.api.types.is_numeric_dtype(frame[name])]
    for row in frame.to_dict("records"):
        yield (
            int(row[step]),
            {f"{group}/{name}": float(row[name]) for name in numeric if np.isfinite(row[name])},
        )


def by_epoch(history: pa.Table, scores: pa.Table, living: float) -> Steps:
    """One step an epoch: the median over the members that did not diverge, as `epochs/column`.

    As the page's learning curves, they end where fewer than `living` of these members still train: what the
    last survivors have in common is that they survived. `epochs/models` counts those that do.

    Examples
    --------
    >>> history = pa.table({"member": [0, 1, 2, 0, 1, 0], "epoch": [1, 1, 1, 2, 2, 3],
    ...     "train_loss": [2.0, 4.0, 9e9, 1.0, 3.0, 0.5], "val_loss": [3.0, 5.0, 9e9, 2.0, 4.0, 1.0],
    ...     "val_mae": [1.0, 3.0, 9e9, 1.0, 2.0, 0.5]})
    >>> scores = pa.table({"member": [0, 1, 2], "diverged": [False, False, True]})
    >>> first, *others = by_epoch(history, scores, living=0.75)
    >>> first
    (1, {'epochs/train_loss': 3.0, 'epochs/val_loss': 4.0, 'epochs/val_mae': 2.0, 'epochs/models': 2.0})
    >>> [epoch for epoch, _ in others]
    [2]
    """
    members = scores.filter(pc.invert(scores["diverged"]))["member"]
    sound = history.filter(pc.is_in(history["member"], value_set=members.combine_chunks())).to_pandas()
    columns = ["train_loss", "val_loss", "val_mae"]
    epochs = sound.groupby("epoch")
    medians = epochs[columns].median().assign(models=epochs.size())
    for epoch, row in medians[medians["models"] >= max(1, living * len(members))].iterrows():
        yield (
            int(str(epoch)),
            {f"epochs/{name}": float(value) for name, value in row.items() if np.isfinite(value)},
        )
