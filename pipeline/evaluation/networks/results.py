"""What the stage finetune left, read and checked once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.core.errors import UserError
from pipeline.core.tables import SUBJECT, producer_of, read_table, sha256
from pipeline.evaluation.group_errors import MOST
from pipeline.evaluation.results import columns, numbers_of, read_frame, read_log
from pipeline.evaluation.settings import Settings
from pipeline.metrics import age_bins

TEXT, WHOLE, REAL = pa.string(), pa.int64(), pa.float64()
MEASURED = ("epochs", "best_epoch", "val_loss", "mae", "val_mae", "test_mae", "test_rmse", "test_within")
"""Scores that every network has, but one that diverged."""
SCORES = columns(
    nullable=(*MEASURED, "test_pearson", "test_unimodal", "test_modes", "diverged"),
    member=WHOLE,
    seed=WHOLE,
    epochs=WHOLE,
    best_epoch=WHOLE,
    val_loss=REAL,
    mae=REAL,
    val_mae=REAL,
    test_mae=REAL,
    test_rmse=REAL,
    test_pearson=REAL,
    test_within=REAL,
    test_unimodal=REAL,
    test_modes=REAL,
    diverged=TEXT,
)
HISTORY = columns(member=WHOLE, epoch=WHOLE, train_loss=REAL, val_loss=REAL, val_mae=REAL)
PREDICTIONS = columns(member=WHOLE, face_id=TEXT, split=TEXT, column=TEXT, target=REAL, prediction=REAL)
BINS = "target_bins"
"""The column of groups that the target itself makes."""


@dataclass(frozen=True)
class Run:
    """The networks of one loss, or variant, and one backbone.

    `predictions` has a row for each member, column and judged face, with the group columns that are known;
    `distributions` is aligned with its rows, (rows, C) over `labels`, or None. `seconds` is (members,), or
    None where no running time is known; `sha256` is that of scores.parquet. Networks that diverged have a
    sentence in `diverged` and are nowhere else.
    """

    name: str
    backbone: str
    settings: dict[str, Any]
    scores: pd.DataFrame
    history: pd.DataFrame
    predictions: pd.DataFrame
    distributions: NDArray[np.float64] | None
    labels: NDArray[np.float64] | None
    sha256: str
    seconds: NDArray[np.float64] | None = None
    diverged: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """How the run is called in legends."""
        return f"{self.name}, {self.backbone}"

    def test(self, member: int | None = None) -> pd.DataFrame:
        """Predictions of test faces, of one network or all."""
        rows = self.predictions["split"] == "test"
        if member is not None:
            rows &= self.predictions["member"] == member
        return self.predictions[rows]


def read(
    folder: Path,
    losses: Sequence[str],
    backbones: Sequence[str],
    faces: pd.DataFrame | None = None,
    settings: Settings | None = None,
) -> list[Run]:
    """Read every loss with every backbone; none if there is no folder, nor those that had nothing to train.

    Parameters
    ----------
    folder
        Holds {loss}/{backbone}/ with scores, history and predictions.
    losses, backbones
        Which, in the order of the report.
    faces
        face_id and group columns, for errors by group.
    settings
        Which of them are groups.

    Raises
    ------
    UserError
        A file is missing, damaged, lacks a column, or does not fit the others.
    """
    if not folder.exists():
        return []
    found = [
        read_run(folder / loss / backbone, loss, backbone, faces, settings or Settings())
        for loss in losses
        for backbone in backbones
    ]
    return [run for run in found if len(run.scores) or run.diverged]


def read_run(folder: Path, name: str, backbone: str, faces: pd.DataFrame | None, wanted: Settings) -> Run:
    """One loss with one backbone."""
    path = folder / "predictions.parquet"
    scores, diverged = read_scores(folder / "scores.parquet")
    predictions = read_frame(path, PREDICTIONS)
    raw = read_table(path)
    settings = producer_of(path)["settings"]
    distributions = None
    if "distribution" in raw.column_names:
        flat = raw["distribution"].combine_chunks().flatten().to_numpy()
        distributions = flat.reshape(len(predictions), -1).astype(np.float64)
        predictions["spread"] = raw["spread"].to_numpy()
    check_complete(path, scores, predictions)
    if wanted.group_edges:
        predictions[BINS] = np.asarray(age_bins(predictions["target"], wanted.group_edges), dtype=object)
    if faces is not None:
        groups = faces[["face_id", *group_columns(faces, wanted)]]
        predictions = predictions.merge(groups, on="face_id", how="left", validate="many_to_one")
    labels = np.asarray(settings["labels"], dtype=np.float64) if settings.get("labels") else None
    history = read_frame(folder / "history.parquet", HISTORY)
    return Run(
        name,
        backbone,
        settings,
        scores,
        history,
        predictions,
        distributions,
        labels,
        sha256(folder / "scores.parquet"),
        diverged=diverged,
    )


def read_scores(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The scores of networks that did not diverge, and the sentences of those that did."""
    frame = read_frame(path, SCORES)
    gone = frame["diverged"].notna()
    scores = frame[~gone].drop(columns="diverged").reset_index(drop=True)
    for name in MEASURED:
        if scores[name].isna().any():
            member = scores.loc[scores[name].isna(), "member"].iloc[0]
            raise UserError(f"{path}, column {name!r} of member {member} is empty: every row needs a value")
    return scores, tuple(frame.loc[gone, "diverged"])


def check_complete(path: Path, scores: pd.DataFrame, predictions: pd.DataFrame) -> None:
    """The predictions must be finite and have the errors that the scores claim."""
    if not np.isfinite(predictions[["target", "prediction"]].to_numpy()).all():
        raise UserError(f"{path} holds a number that is not finite: run the stage finetune again")
    test = predictions[predictions["split"] == "test"]
    errors = (test["prediction"] - test["target"]).abs().groupby([test["member"], test["column"]]).mean()
    found = errors.groupby("member").mean()
    claimed = scores.set_index("member")["test_mae"]
    off = ~np.isclose(found.reindex(claimed.index), claimed, rtol=1e-3, atol=1e-6)
    if off.any():
        raise UserError(
            f"{path}: member {claimed.index[off][0]} has another test error than in scores.parquet: the "
            "files are of different runs, run the stage finetune again"
        )


def group_columns(faces: pd.DataFrame, settings: Settings) -> list[str]:
    """The columns whose values are groups of faces: those asked for, or all texts of few values."""
    own = set(PREDICTIONS.names) | {"spread", BINS, SUBJECT}
    others = [name for name in map(str, faces) if name not in own]
    texts = [name for name in others if pd.api.types.is_string_dtype(faces[name])]
    if settings.groups is not None:
        return [name for name in texts if name in settings.groups]
    return [name for name in texts if 2 <= faces[name].nunique() <= MOST]


def with_seconds(runs: Sequence[Run], logs: Path) -> list[Run]:
    """The runs with their running times, where logs/finetune-{loss}-{backbone}.json tells them."""
    return [replace(run, seconds=read_seconds(run, logs)) for run in runs]


def read_seconds(run: Run, logs: Path) -> NDArray[np.float64] | None:
    """Seconds of training for each network of a run, or None if no log tells."""
    log = read_log(logs / f"finetune-{run.name}-{run.backbone}.json", run.sha256)
    return numbers_of(log.get("member_seconds"), len(run.scores))
