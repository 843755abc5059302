"""A study's tables, as stage study wrote them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.core.errors import UserError
from pipeline.core.tables import open_table, producer_of
from pipeline.evaluation.results import REAL, TEXT, WHOLE, YES_NO, Run, columns, read_frame
from pipeline.evaluation.settings import policy_title

STUDY = "study"
SPLITS = {"val_mae": ("validation", 4), "test_mae": ("test", 0)}
TRIALS = columns(("value",), trial=WHOLE, end=TEXT, value=REAL, epochs=WHOLE)
REACHED = columns(trial=WHOLE, epoch=WHOLE, value=REAL)
IMPORTANCE = columns(setting=TEXT, importance=REAL)
COMPARISON = columns(
    ("mae", "val_mae", "test_mae"),
    policy=TEXT,
    member=WHOLE,
    seed=WHOLE,
    lr=REAL,
    diverged=YES_NO,
    mae=REAL,
    val_mae=REAL,
    test_mae=REAL,
)


@dataclass(frozen=True)
class StudyResults:
    """A study's tables; `scales` says of each setting whether it is `log`, `linear` or a `category`.

    `comparison` holds the models of the best settings, and after `with_rivals` those of the other policies.
    """

    trials: pd.DataFrame
    reached: pd.DataFrame
    importance: pd.DataFrame
    comparison: pd.DataFrame
    scales: dict[str, str]
    optimizer: str

    @property
    def complete(self) -> pd.DataFrame:
        """The trials that have a value, best first."""
        return self.trials[self.trials["value"].notna()].sort_values("value", kind="stable")


def read(folder: Path) -> StudyResults | None:
    """Read studies/, or None where no study has been made.

    Raises
    ------
    UserError
        A table is missing while others are there, is damaged or lacks a column.
    """
    path = folder / "trials.parquet"
    if not path.exists():
        return None
    recorded = producer_of(path)["settings"]
    names = [name for name in open_table(path).schema_arrow.names if name != "members"]
    return StudyResults(
        read_frame(path, TRIALS, extra=[name for name in names if name not in TRIALS.names]),
        read_frame(folder / "reached.parquet", REACHED),
        read_frame(folder / "importance.parquet", IMPORTANCE),
        read_frame(folder / "comparison.parquet", COMPARISON),
        recorded["scales"],
        recorded["optimizer"],
    )


def with_rivals(found: StudyResults, runs: Sequence[Run]) -> StudyResults:
    """The study's models after those that the same optimiser has under each policy, if it is trained at all.

    Raises
    ------
    UserError
        They are of other seeds than the study's.
    """
    frames = []
    for run in runs:
        if run.optimizer != found.optimizer:
            continue
        if run.scores["seed"].tolist() != found.comparison["seed"].tolist():
            raise UserError(
                f"the models of policy {run.policy!r} have other seeds than the study's: run dvc repro study"
            )
        frames.append(run.scores.assign(policy=run.policy)[COMPARISON.names])
    return replace(found, comparison=pd.concat([*frames, found.comparison], ignore_index=True))


def titles(found: StudyResults) -> dict[str, str]:
    """The policies in words, in their order."""
    names = dict.fromkeys(found.comparison["policy"])
    return {name: "best of the study" if name == STUDY else policy_title(name) for name in names}


def shown(value: Any) -> str:
    """A setting as text."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
