"""Numbers of a run that several tables and figures show: means over its networks."""

from collections.abc import Sequence

import numpy as np

from pipeline.evaluation.networks.results import Run


def mean_of(run: Run, column: str) -> float:
    """A score's mean over a run's networks, NaN where none has it."""
    return float(run.scores[column].astype(np.float64).mean())


def column_errors(run: Run) -> dict[str, float]:
    """The test error of each predicted column."""
    test = run.test()
    errors = (test["prediction"] - test["target"]).abs()
    return {str(column): float(error) for column, error in errors.groupby(test["column"]).mean().items()}


def judged_faces(run: Run) -> frozenset[tuple[str, str]]:
    """The test faces that a run was judged on, with the columns predicted of each."""
    return frozenset(run.test()[["face_id", "column"]].itertuples(index=False, name=None))


def minutes(run: Run) -> float:
    """Minutes to train one network."""
    return np.nan if run.seconds is None or not run.seconds.size else float(run.seconds.mean()) / 60


def finished(runs: Sequence[Run]) -> list[Run]:
    """The runs of which at least one network did not diverge."""
    return [run for run in runs if len(run.scores)]


def lost(run: Run) -> str:
    """How many of a run's networks diverged, as text; empty where none did."""
    gone = len(run.diverged)
    return f"{gone} of {gone + len(run.scores)}" if gone else ""


def best_run(runs: Sequence[Run]) -> Run:
    """The run with the lowest validation error, of those that have one."""
    return min(finished(runs), key=lambda run: mean_of(run, "val_mae"))
