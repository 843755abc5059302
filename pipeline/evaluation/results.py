"""The files a report is made from: what they must hold, read and checked once.

Everything is aligned to the rows of embeddings/faces.parquet, so that predictions are plain arrays
(members, faces). Columns beyond the schemas are allowed and ignored.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core.errors import UserError
from pipeline.core.tables import SUBJECT, open_table, read_as, read_table, sha256
from pipeline.metrics.clusters import Integers, numbered

FloatArray = NDArray[np.float64]

SPLITS = ("train", "validation", "test")


def columns(nullable: Sequence[str] = (), **types: pa.DataType) -> pa.Schema:
    """A schema whose columns need a value in every row, but for those named."""
    return pa.schema([pa.field(name, kind, name in nullable) for name, kind in types.items()])


TEXT, WHOLE, REAL, YES_NO = pa.string(), pa.int64(), pa.float64(), pa.bool_()

FACES = columns(face_id=TEXT, target=REAL, split=TEXT)
# One row a member. `mae` is on training faces; a diverged member's errors are null or NaN.
SCORES = columns(
    nullable=("mae", "val_mae", "test_mae"),
    member=WHOLE,
    seed=WHOLE,
    lr=REAL,
    epochs=WHOLE,
    best_epoch=WHOLE,
    diverged=YES_NO,
    mae=REAL,
    val_mae=REAL,
    test_mae=REAL,
)
# One row for each epoch that a member took part in; epochs count from 1. A diverged member's last losses
# may be null or NaN.
HISTORY = columns(
    nullable=("train_loss", "val_loss", "val_mae"),
    member=WHOLE,
    epoch=WHOLE,
    lr=REAL,
    train_loss=REAL,
    val_loss=REAL,
    val_mae=REAL,
)
# Every validation and test face for every member that did not diverge; training faces may be left out.
PREDICTIONS = columns(("prediction",), member=WHOLE, face_id=TEXT, prediction=REAL)
# The finder's curves, one row a step; the rate a member then used is its `lr` in scores.parquet.
LR_CURVES = columns(("loss",), member=WHOLE, lr=REAL, loss=REAL)
# One row a baseline and judged face, and one row a baseline.
BASELINE_PREDICTIONS = columns(baseline=TEXT, face_id=TEXT, prediction=REAL)
BASELINE_SETTINGS = columns(baseline=TEXT, title=TEXT, settings=TEXT, train_rows=WHOLE, note=TEXT)


@dataclass(frozen=True)
class Run:
    """The members of one optimiser under one policy, in the order of their numbers.

    `predictions` is (members, faces), NaN where none was written; `sha256` is that of scores.parquet.
    `seconds` is (members,), those that each took on its core, and `stage_seconds` those of all side by side;
    None when no running time is known.
    """

    policy: str
    optimizer: str
    scores: pd.DataFrame
    history: pd.DataFrame
    predictions: FloatArray
    sha256: str
    lr_curves: pd.DataFrame | None = None
    seconds: FloatArray | None = None
    stage_seconds: float | None = None


@dataclass(frozen=True)
class Baselines:
    """The baselines: `table` has a row each, `predictions` is (baselines, faces)."""

    table: pd.DataFrame
    predictions: FloatArray


@dataclass(frozen=True)
class Results:
    """Everything a report is made from; `faces` has face_id, target, split, subject and groups."""

    faces: pd.DataFrame
    runs: tuple[Run, ...]
    baselines: Baselines | None = None

    def rows(self, split: str) -> NDArray[np.bool_]:
        """Which faces belong to a split."""
        return np.asarray(self.faces["split"] == split)

    def target(self, split: str) -> FloatArray:
        """The targets of one split's faces."""
        return self.faces["target"].to_numpy(dtype=np.float64)[self.rows(split)]

    def subjects(self, split: str) -> Integers | None:
        """Whom one split's faces show, as numbers; None where the data set does not know."""
        if SUBJECT not in self.faces:
            return None
        owners = self.faces[SUBJECT][self.rows(split)]
        return numbered(owners, len(owners))

    @property
    def policies(self) -> tuple[str, ...]:
        """The policies in the order they were read."""
        return tuple(dict.fromkeys(run.policy for run in self.runs))

    @property
    def optimizers(self) -> tuple[str, ...]:
        """The optimisers in the order they were read."""
        return tuple(dict.fromkeys(run.optimizer for run in self.runs))


def read(
    faces: Path,
    models: Path,
    policies: Sequence[str],
    optimizers: Sequence[str],
    baselines: Path | None = None,
) -> Results:
    """Read the results of all runs, every policy with every optimiser.

    Parameters
    ----------
    faces
        embeddings/faces.parquet: `FACES` and any group columns; vectors are not read.
    models
        The folder that holds {policy}/{optimizer}/scores.parquet, history.parquet, predictions.parquet
        and, where the finder ran, lr_curves.parquet.
    policies, optimizers
        Which of them, in the order the report shows.
    baselines
        A folder with predictions.parquet and settings.parquet, or None.

    Raises
    ------
    UserError
        A file is missing, damaged, lacks a column, or does not fit the others.
    """
    people = read_faces(faces)
    index = pa.array(people["face_id"], pa.string())
    runs = tuple(
        read_run(models / policy / optimizer, policy, optimizer, people, index)
        for policy in policies
        for optimizer in optimizers
    )
    if not runs:
        raise UserError("there is nothing to report on: name at least one policy and one optimiser")
    return Results(people, runs, None if baselines is None else read_baselines(baselines, people, index))


def read_faces(path: Path) -> pd.DataFrame:
    """The faces' ids, targets, splits and groups, each face once."""
    schema = open_table(path).schema_arrow
    groups = [field.name for field in schema if not pa.types.is_nested(field.type)]
    faces = read_frame(path, FACES, extra=groups)
    if faces.empty:
        raise UserError(f"{path} holds no faces: look into data/rejects.parquet for why")
    if faces["face_id"].duplicated().any():
        double = faces.loc[faces["face_id"].duplicated(), "face_id"].iloc[0]
        raise UserError(f"{path} lists face {double} twice: every face may occur once")
    if not np.isfinite(faces["target"]).all():
        lacking = faces.loc[~np.isfinite(faces["target"]), "face_id"].iloc[0]
        raise UserError(f"{path}: the target of face {lacking} is not a finite number")
    for split in SPLITS:
        if not (faces["split"] == split).any():
            raise UserError(f"{path} has no {split} face: change the split's sizes in params.yaml")
    return faces


def read_run(folder: Path, policy: str, optimizer: str, faces: pd.DataFrame, index: pa.Array) -> Run:
    """One optimiser under one policy."""
    scores = read_frame(folder / "scores.parquet", SCORES).sort_values("member", ignore_index=True)
    if scores.empty or scores["member"].duplicated().any():
        raise UserError(f"{folder / 'scores.parquet'} must hold one row for each member, at least one")
    measures = ["mae", "val_mae", "test_mae"]
    # Whatever a diverged member scored by accident must not reach a mean.
    scores.loc[scores["diverged"].to_numpy(dtype=bool), measures] = np.nan
    path = folder / "predictions.parquet"
    predictions = dense(path, PREDICTIONS, "member", scores["member"].tolist(), index)
    check_complete(path, predictions, scores, faces)
    curves = folder / "lr_curves.parquet"
    return Run(
        policy,
        optimizer,
        scores,
        read_frame(folder / "history.parquet", HISTORY),
        predictions,
        sha256(folder / "scores.parquet"),
        read_frame(curves, LR_CURVES) if curves.exists() else None,
    )


def read_baselines(folder: Path, faces: pd.DataFrame, index: pa.Array) -> Baselines:
    """The baselines' settings and predictions."""
    table = read_frame(folder / "settings.parquet", BASELINE_SETTINGS)
    path = folder / "predictions.parquet"
    predictions = dense(path, BASELINE_PREDICTIONS, "baseline", table["baseline"].tolist(), index)
    judged = np.asarray(faces["split"] != "train")
    lacking = ~np.isfinite(predictions[:, judged]).all(axis=1)
    if lacking.any():
        name = table["baseline"][int(np.flatnonzero(lacking)[0])]
        raise UserError(f"{path}: baseline {name!r} lacks a prediction for some validation or test faces")
    return Baselines(table, predictions)


def read_frame(path: Path, schema: pa.Schema, extra: Sequence[str] = ()) -> pd.DataFrame:
    """The schema's columns, in its types, and some more as they are."""
    frame: pd.DataFrame = read_as(path, schema, extra).to_pandas()
    return frame


def dense(path: Path, schema: pa.Schema, key: str, keys: Sequence[str | int], index: pa.Array) -> FloatArray:
    """Long predictions as an array (keys, faces) in the order of both; NaN where there is none."""
    table = read_table(path, schema.names)
    columns = pc.index_in(table["face_id"].cast(pa.string()), value_set=index)
    if columns.null_count:
        stranger = table["face_id"].filter(pc.is_null(columns))[0]
        raise UserError(f"{path} predicts face {stranger}, which is not among the faces: run dvc repro")
    rows = pc.index_in(table[key].cast(schema.field(key).type), pa.array(keys, schema.field(key).type))
    if rows.null_count:
        raise UserError(
            f"{path} has a {key} {table[key].filter(pc.is_null(rows))[0]} that no other file names"
        )
    places = rows.to_numpy().astype(np.int64) * len(index) + columns.to_numpy()
    if np.unique(places).size != places.size:
        raise UserError(f"{path} predicts a face twice for the same {key}")
    values = np.full(len(keys) * len(index), np.nan)
    values[places] = table["prediction"].cast(pa.float64()).to_numpy()
    return values.reshape(len(keys), len(index))


def check_complete(path: Path, predictions: FloatArray, scores: pd.DataFrame, faces: pd.DataFrame) -> None:
    """Every sound member must have predicted all validation and test faces, with the errors it claims."""
    sound = ~scores["diverged"].to_numpy(dtype=bool)
    for split, column in (("validation", "val_mae"), ("test", "test_mae")):
        judged = np.asarray(faces["split"] == split)
        targets = faces["target"].to_numpy(dtype=np.float64)[judged]
        errors = np.abs(predictions[np.ix_(sound, judged)] - targets).mean(axis=1)
        claimed = scores.loc[sound, column].to_numpy(dtype=np.float64)
        members = scores.loc[sound, "member"].to_numpy()
        if not np.isfinite(errors).all():
            member = members[~np.isfinite(errors)][0]
            raise UserError(f"{path}: member {member} lacks a finite prediction for some {split} faces")
        off = ~np.isclose(errors, claimed, rtol=1e-3, atol=1e-6)
        if off.any():
            raise UserError(
                f"{path}: member {members[off][0]} has a {column} of {errors[off][0]:.4g} by its predictions "
                f"and {claimed[off][0]:.4g} in scores.parquet: the files are of different runs, train again"
            )


def with_seconds(results: Results, logs: Path) -> Results:
    """The results with running times, where logs/train-{policy}-{optimizer}.json tells them.

    A log holds `seconds`, from the stage's start to its end, `member_seconds`, one number a member, and
    `scores`, the hash of scores.parquet. Logs are kept outside DVC: one that is absent, damaged or of another
    run tells nothing.
    """
    return replace(results, runs=tuple(timed(run, logs) for run in results.runs))


def timed(run: Run, logs: Path) -> Run:
    """A run with the seconds of its members and of its stage, or as it is if no log tells."""
    log = read_log(logs / f"train-{run.policy}-{run.optimizer}.json", run.sha256)
    whole = numbers_of(log.get("seconds"), 1)
    seconds = numbers_of(log.get("member_seconds"), len(run.scores))
    if whole is None or seconds is None:
        return run
    return replace(run, seconds=seconds, stage_seconds=float(whole[0]))


def read_log(path: Path, scores: str) -> dict[str, Any]:
    """What a stage's log says of the run whose scores have this hash; nothing if it is not of that run."""
    try:
        log = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return log if isinstance(log, dict) and log.get("scores") == scores else {}


def numbers_of(value: Any, count: int) -> FloatArray | None:
    """So many finite numbers of a log, none below 0; None where it holds something else."""
    try:
        found = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (ValueError, TypeError, OverflowError):
        return None
    return found if found.shape == (count,) and np.isfinite(found).all() and (found >= 0).all() else None
