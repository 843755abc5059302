"""Whole networks in metrics.json and on the terminal."""

from collections.abc import Sequence
from typing import Any

from pipeline.evaluation.networks.measures import mean_of
from pipeline.evaluation.networks.results import Run
from pipeline.evaluation.summary import finite


def metrics(runs: Sequence[Run]) -> dict[str, Any]:
    """{loss: {backbone: {val_mae, test_mae}}}, for metrics.json; and how many diverged, where any did."""
    tree: dict[str, Any] = {}
    for run in runs:
        found: dict[str, Any] = {} if not run.diverged else {"diverged": len(run.diverged)}
        found |= {
            column: finite({"mean": values.mean(), "std": values.std(), "min": values.min()})
            for column in ("val_mae", "test_mae")
            for values in [run.scores[column]]
            if len(values)
        }
        tree.setdefault(run.name, {})[run.backbone] = found
    return tree


def headlines(runs: Sequence[Run]) -> dict[str, str | int | float]:
    """A line for the terminal for every run."""
    return {
        f"test MAE, {run.title}": round(mean_of(run, "test_mae"), 3) if len(run.scores) else "diverged"
        for run in runs
    }
