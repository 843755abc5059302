"""Tables of faces as what a training takes: vectors and targets of each split."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from pipeline.core.errors import UserError
from pipeline.core.tables import SUBJECT, rows_of, vectors_of
from pipeline.metrics.groups import AGES, age_bins, balancing_weights
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.mlp.setup import build_loss


@dataclass(frozen=True)
class Material:
    """What members learn from and what chooses their best epoch: vectors (N, D) and targets (N,).

    `train_weight` is one weight a training vector, or None where all weigh the same.
    """

    train_x: NDArray[np.float32]
    train_y: NDArray[np.float64]
    val_x: NDArray[np.float32]
    val_y: NDArray[np.float64]
    train_weight: NDArray[np.float64] | None = None


def material_of(
    faces: pa.Table, augmented: pa.Table, balance: str | None = None, edges: Sequence[float] = AGES
) -> Material:
    """The training faces followed by the augmented ones, and the validation faces.

    Parameters
    ----------
    faces
        face_id, target, split and vector.
    augmented
        face_id, target, vector and parent_id; it may be empty.
    balance
        A group column of `faces` whose groups shall weigh the same in training, or `target`, for bins of the
        targets. An augmented vector has its parent's group; a face of unknown group weighs 1.
    edges
        The borders of those bins.

    Raises
    ------
    UserError
        There is no such group column, an augmented vector's parent is not a training face, its width is
        another, or a split is empty.

    Examples
    --------
    >>> vectors = pa.FixedSizeListArray.from_arrays(pa.array([1, 2, 3, 4], pa.float32()), 2)
    >>> faces = pa.table({"face_id": ["a", "b"], "target": [5.0, 6.0], "split": ["train", "validation"]})
    >>> faces = faces.append_column("vector", vectors)
    >>> material = material_of(faces, faces.append_column("parent_id", faces["face_id"]).slice(0, 1))
    >>> material.train_x.tolist(), material.val_y.tolist()
    ([[1.0, 2.0], [1.0, 2.0]], [6.0])
    """
    train, validation = (faces.filter(pc.equal(faces["split"], name)) for name in ("train", "validation"))
    for name, part in (("train", train), ("validation", validation)):
        if not part.num_rows:
            raise UserError(f"there is no {name} face to learn from: change the split's sizes in params.yaml")
    strangers = pc.invert(pc.is_in(augmented["parent_id"], value_set=train["face_id"].combine_chunks()))
    if pc.any(strangers).as_py():
        parent = augmented["parent_id"].filter(strangers)[0]
        raise UserError(
            f"face {parent}, from which augmented vectors were made, does not train: run the stage augment"
        )
    train_x = [vectors_of(part) for part in (train, augmented) if part.num_rows]
    widths = [x.shape[1] for x in train_x]
    if len(set(widths)) > 1:
        raise UserError(
            f"augmented vectors are {widths[1]} wide, those of faces {widths[0]}: run the stage augment"
        )
    train_y = [targets_of(part) for part in (train, augmented)]
    groups = None if balance is None else groups_of(train, augmented, balance, edges)
    return Material(
        np.concatenate(train_x),
        np.concatenate(train_y),
        vectors_of(validation),
        targets_of(validation),
        None if groups is None else balancing_weights(groups),
    )


def groups_of(train: pa.Table, augmented: pa.Table, column: str, edges: Sequence[float]) -> Any:
    """The group of each training face, then of each augmented vector."""
    if column == "target":
        return age_bins(np.concatenate([targets_of(train), targets_of(augmented)]), edges)
    texts = [field.name for field in train.schema if pa.types.is_string(field.type)]
    known = [name for name in texts if name not in ("face_id", "split", SUBJECT)]
    if column not in known:
        listed = ", ".join([*known, "target"])
        raise UserError(f"train.balance.column is {column!r}: the faces can be balanced by {listed}")
    parents = rows_of(train, augmented["parent_id"])
    return [*train[column].to_pylist(), *parents[column].to_pylist()]


def targets_of(table: pa.Table) -> NDArray[np.float64]:
    """The column `target` as an array (N,) of its own, since torch warns of Arrow's, which is read-only."""
    targets: NDArray[np.float64] = table["target"].to_numpy().astype(np.float64)
    return targets


def settled(recipe: Recipe, material: Material) -> Recipe:
    """The recipe with the labels of its loss filled in, so that finder and training have the same outputs."""
    train, validation = (torch.from_numpy(targets).float() for targets in (material.train_y, material.val_y))
    _, settings = build_loss(recipe, train, validation)
    return replace(recipe, loss_settings=settings)
