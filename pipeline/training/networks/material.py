"""The manifest and the splits as what networks learn: targets, weights, and who is in which split."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.core.errors import UserError
from pipeline.core.files import listed
from pipeline.core.rejects import Rejects
from pipeline.core.tables import rows_of
from pipeline.metrics import age_bins, balancing_weights

SPLITS = ("train", "validation", "test")
MIRRORED = {"yaw": -1.0, "roll": -1.0}
"""Columns whose sign changes when a picture is mirrored."""


@dataclass(frozen=True)
class Goal:
    """What is to be predicted, and how much each training face counts.

    Parameters
    ----------
    columns
        Columns of the manifest with the K targets: `target`; for a head pose yaw, pitch and roll.
    weight
        A column of numbers above 0; None: all alike.
    balance
        A column whose groups are to count the same in training, such as gender; `target` stands for the bins
        below 20, 20 to 40, 40 to 60, above. None: faces count alike.
    labels
        The values of the labels that distributions are over, where they are given: faces with a target
        beyond their ends are left out.
    """

    columns: tuple[str, ...] = ("target",)
    weight: str | None = None
    balance: str | None = None
    labels: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Labelled:
    """Faces in ascending order of face_id: splits (N,), targets (N, K), weights (N,)."""

    face_ids: list[str]
    split: NDArray[np.str_]
    targets: Tensor
    weights: Tensor

    def rows(self, split: str) -> NDArray[np.int64]:
        """Where the faces of a split stand."""
        return np.flatnonzero(self.split == split)

    def ids(self) -> dict[str, list[str]]:
        """The face_ids of each split."""
        return {name: [self.face_ids[row] for row in self.rows(name)] for name in SPLITS}


def labelled(manifest: pa.Table, splits: pa.Table, goal: Goal, rejects: Rejects) -> Labelled:
    """Read the targets and weights of all faces that have a split.

    Parameters
    ----------
    manifest
        With face_id and the columns that `goal` names.
    splits
        face_id and split.
    goal
        What is predicted.
    rejects
        Where faces are listed whose target is beyond the labels, by `out_of_range`, or unknown.

    Raises
    ------
    UserError
        A column is missing or not of numbers, a weight is not above 0, or a split is left without a face.

    Examples
    --------
    >>> manifest = pa.table({"face_id": ["a", "b", "c"], "target": [1.0, 2.0, 3.0]})
    >>> splits = pa.table({"face_id": ["a", "b", "c"], "split": ["train", "validation", "test"]})
    >>> labelled(manifest, splits, Goal(), Rejects()).targets.tolist()
    [[1.0], [2.0], [3.0]]
    """
    splits = splits.sort_by("face_id")
    faces = rows_of(manifest, splits["face_id"])
    targets = np.stack([numbers(faces, name) for name in goal.columns], axis=1)
    keep = usable(splits["face_id"].to_pylist(), targets, goal, rejects)
    split = splits["split"].to_numpy()
    for name in SPLITS:
        if not (keep & (split == name)).any():
            raise UserError(f"there is no {name} face with a usable target: change the split in params.yaml")
    faces, split = faces.filter(pa.array(keep)), split[keep]
    return Labelled(
        faces["face_id"].to_pylist(),
        split,
        torch.from_numpy(targets[keep]).float(),
        torch.from_numpy(weights_of(faces, split, goal)).float(),
    )


def usable(
    ids: Sequence[str], targets: NDArray[np.float64], goal: Goal, rejects: Rejects
) -> NDArray[np.bool_]:
    """Which faces have all targets (N, K), within the labels where these are given; others are rejected."""
    known = np.asarray(np.isfinite(targets).all(axis=1))
    low, high = -np.inf, np.inf
    if goal.labels is not None:
        margin = (goal.labels[-1] - goal.labels[0]) / (len(goal.labels) - 1) / 2
        low, high = goal.labels[0] - margin, goal.labels[-1] + margin
    outside = known & ((targets < low) | (targets > high)).any(axis=1)
    kept = known & ~outside
    for row in np.flatnonzero(~kept).tolist():
        values = zip(goal.columns, targets[row], strict=True)
        said = ", ".join(f"{name} {value:g}" for name, value in values)
        reason, why = ("out_of_range", "outside the labels") if outside[row] else ("no_target", "unknown")
        rejects.add(stage="finetune", reason=reason, detail=f"{said}: {why}", face_id=ids[row])
    return kept


def numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column as numbers, NaN where it is empty; group columns hold them as text."""
    if name not in table.column_names:
        raise UserError(
            f"the manifest has no column {name!r}, but {listed(table.column_names)}: mend finetune.faces"
        )
    try:
        column = table[name].cast(pa.float64())
    except pa.ArrowInvalid:
        raise UserError(f"column {name!r} of the manifest is not of numbers: mend finetune.faces") from None
    values: NDArray[np.float64] = pc.fill_null(column, float("nan")).to_numpy()
    return values


def weights_of(faces: pa.Table, split: NDArray[np.str_], goal: Goal) -> NDArray[np.float64]:
    """One weight a face, of mean 1 in training; others weigh 1, so that errors stay comparable."""
    weights = np.ones(len(faces))
    train = split == "train"
    if goal.weight is not None:
        given = numbers(faces, goal.weight)
        wrong = np.flatnonzero(train & ~(np.isfinite(given) & (given > 0)))
        if wrong.size:
            face, value = faces["face_id"][int(wrong[0])], given[wrong[0]]
            raise UserError(f"face {face} has the weight {value:g} in {goal.weight!r}: it must be above 0")
        weights[train] = given[train]
    if goal.balance is not None:
        weights[train] *= balancing_weights(groups_of(faces, goal.balance)[train])
    weights[train] /= weights[train].mean()
    return weights


def groups_of(faces: pa.Table, name: str) -> pd.Series:
    """The groups of a column, None where unknown; targets become the age bins of the bias report."""
    if name == "target":
        return pd.Series(age_bins(numbers(faces, "target")))
    if name not in faces.column_names:
        raise UserError(
            f"the manifest has no group column {name!r}: it has {', '.join(faces.column_names)}; "
            "mend finetune.faces.balance"
        )
    return pd.Series(faces[name].to_pylist(), dtype=object)


def mirror_signs(columns: Sequence[str]) -> Tensor:
    """What a mirrored picture's targets are multiplied by, (K,).

    Examples
    --------
    >>> mirror_signs(["yaw", "pitch", "roll"])
    tensor([-1.,  1., -1.])
    """
    return torch.tensor([MIRRORED.get(name, 1.0) for name in columns])
