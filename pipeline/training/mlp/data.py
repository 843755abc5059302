"""Vectors and targets as a training sees them: checked, on one device, in each member's own order."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.core.errors import UserError
from pipeline.losses.base import refuse_targets


@dataclass(frozen=True)
class Faces:
    """Vectors (N, D), their targets (N,), and where there are any their weights (N,)."""

    vectors: Tensor
    targets: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True)
class Standardisation:
    """Mean and standard deviation of each coordinate, as learnt on training faces; both (D,)."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def learn(cls, vectors: Tensor) -> "Standardisation":
        """Learn from vectors (N, D); a coordinate that never changes keeps its scale."""
        mean, variance = vectors.double().mean(0), vectors.double().var(0, correction=0)
        return cls(mean.float(), torch.where(variance > 0, variance.sqrt(), 1.0).float())

    def __call__(self, vectors: Tensor) -> Tensor:
        """Vectors brought to mean 0 and variance 1."""
        return (vectors - self.mean.to(vectors.device)).div_(self.scale.to(vectors.device))


def checked_vectors(vectors: Any, what: str) -> Tensor:
    """Vectors as float32 (N, D), refused where empty, of another shape or not finite.

    Raises
    ------
    UserError
        Naming `what` (such as "training") and the first bad row.
    """
    tensor = torch.as_tensor(vectors, dtype=torch.float32)
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise UserError(
            f"{what} vectors have shape {tuple(tensor.shape)}: expected (faces, width), not empty"
        )
    bad = (~tensor.isfinite().all(1)).nonzero()
    if len(bad):
        raise UserError(f"{what} vector in row {int(bad[0, 0])} has a value that is not a finite number")
    return tensor


def checked_faces(vectors: Any, targets: Any, weights: Any, what: str) -> Faces:
    """Vectors, targets and weights as float32 tensors of one length; weights are brought to a mean of 1.

    Raises
    ------
    UserError
        Naming `what`, and the shapes, or the first bad row with its value.
    """
    x = checked_vectors(vectors, what)
    y = torch.as_tensor(targets, dtype=torch.float32)
    if y.shape != x.shape[:1]:
        raise UserError(f"{what}: {len(x)} vectors, but targets of shape {tuple(y.shape)}")
    if weights is None:
        return Faces(x, y)
    w = torch.as_tensor(weights, dtype=torch.float32)
    if w.shape != y.shape:
        raise UserError(f"{what}: {len(y)} targets, but weights of shape {tuple(w.shape)}")
    refuse_targets(~(w.isfinite() & (w > 0)), w, f"a {what} weight must be a finite number above 0")
    return Faces(x, y, (w.double() / w.double().mean()).float())


class Order:
    """The order in which one member sees its training faces, epoch after epoch.

    It is dealt by a DataLoader(shuffle=True) with a generator of the member's seed, so that a member trained
    alone with such a loader sees the same batches.

    Examples
    --------
    >>> Order(5, seed=1).epoch()
    tensor([4, 1, 3, 0, 2])
    """

    def __init__(self, faces: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        rows = cast("torch.utils.data.Dataset[int]", range(faces))
        self.loader: DataLoader[int] = DataLoader(
            rows, batch_size=faces, shuffle=True, generator=generator, collate_fn=torch.tensor
        )

    def epoch(self) -> Tensor:
        """Row numbers (N,) of the next epoch."""
        (rows,) = self.loader
        return cast(Tensor, rows)
