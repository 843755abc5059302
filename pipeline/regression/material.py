"""Tables of faces as what a training takes: vectors and targets of each split."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.regression.recipe import Recipe
from pipeline.regression.setup import build_loss
from pipeline.tables import vectors_of


@dataclass(frozen=True)
class Material:
    """What members learn from and what chooses their best epoch: vectors (N, D) and targets (N,)."""

    train_x: NDArray[np.float32]
    train_y: NDArray[np.float64]
    val_x: NDArray[np.float32]
    val_y: NDArray[np.float64]


def material_of(faces: pa.Table, augmented: pa.Table) -> Material:
    """The training faces followed by the augmented ones, and the validation faces.

    Parameters
    ----------
    faces
        face_id, target, split and vector.
    augmented
        The same columns and parent_id; it may be empty.

    Raises
    ------
    UserError
        An augmented vector's parent is not a training face, its width is another, or a split is empty.

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
    return Material(
        np.concatenate(train_x), np.concatenate(train_y), vectors_of(validation), targets_of(validation)
    )


def targets_of(table: pa.Table) -> NDArray[np.float64]:
    """The column `target` as an array (N,) of its own, since torch warns of Arrow's, which is read-only."""
    targets: NDArray[np.float64] = table["target"].to_numpy().astype(np.float64)
    return targets


def settled(recipe: Recipe, material: Material) -> Recipe:
    """The recipe with the labels of its loss filled in, so that finder and training have the same outputs."""
    train, validation = (torch.from_numpy(targets).float() for targets in (material.train_y, material.val_y))
    _, settings = build_loss(recipe, train, validation)
    return replace(recipe, loss_settings=settings)
