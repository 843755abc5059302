"""Whole networks in metrics.json and on the terminal."""

from collections.abc import Sequence
from typing import Any

from pipeline.reports.networks.results import Run
from pipeline.reports.summary import finite


def metrics(runs: Sequence[Run]) -> dict[str, Any]:
    """{loss: {backbone: {val_mae, test_mae}}}, for metrics.json."""
    tree: dict[str, Any] = {}
    for run in runs:
        found = {
            column: finite({"mean": values.mean(), "std": values.std(), "min": values.min()})
            for column in ("val_mae", "test_mae")
            for values in [run.scores[column]]
        }
        tree.setdefault(run.name, {})[run.backbone] = found
    return tree


def headlines(runs: Sequence[Run]) -> dict[str, str | int | float]:
    """A line for the terminal for every run."""
    return {f"test MAE, {run.title}": round(float(run.scores["test_mae"].mean()), 3) for run in runs}
