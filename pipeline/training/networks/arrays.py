"""Labelled pictures in memory: batches in an order that a seed fixes, and what is done to them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import IterableDataset

from pipeline.core.seeds import derive_seed

Pictures = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


def as_tensor(pictures: Pictures) -> Tensor:
    """Pictures (N, H, W) or (N, H, W, C) as the tensor (N, C, H, W) that networks take, still uint8."""
    array = np.asarray(pictures)
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise ValueError(f"pictures are uint8, (N, H, W) or (N, H, W, C), not {array.dtype} {array.shape}")
    if array.ndim == 3:
        array = array[..., None]
    return torch.from_numpy(np.ascontiguousarray(array)).permute(0, 3, 1, 2)


def learnt_from(count: int, batch_size: int) -> int:
    """How many of a round's pictures are learnt from: a last batch of a single one is left out.

    Batch normalisation cannot learn from it.

    Examples
    --------
    >>> learnt_from(33, 16), learnt_from(34, 16), learnt_from(1, 16)
    (32, 34, 1)
    """
    lonely = batch_size > 1 and count % batch_size == 1 and count > 1
    return count - lonely


class Batches(IterableDataset[tuple[Tensor, Tensor]]):
    """Slices of labelled pictures; with a seed they are learnt from, in each round in another order."""

    def __init__(self, pictures: Tensor, labels: Tensor, size: int, seed: int | None = None) -> None:
        self.pictures = pictures
        self.labels = labels
        self.size = size
        self.seed = seed
        self.rounds = 0

    def __len__(self) -> int:
        return -(-self.count // self.size)

    @property
    def count(self) -> int:
        """Pictures of a round."""
        every = len(self.labels)
        return every if self.seed is None else learnt_from(every, self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.arange(len(self.labels))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.rounds))
            order = order[torch.randperm(len(order), generator=generator)]
            self.rounds += 1
        for rows in torch.split(order[: self.count], self.size):
            yield self.pictures[rows], self.labels[rows]


@dataclass(frozen=True)
class Distortion:
    """Zooming, shearing and flipping of training pictures, each picture by its own draw.

    Source: EmoSynthNet thesis, section 3.3.2 ("augmented by a factor of 0.2").

    Parameters
    ----------
    zoom
        The side of what is seen is up to this share larger or smaller.
    shear
        Rows are shifted by up to this share of their distance from the middle.
    flip
        Half of the pictures are mirrored; not for digits.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(1)
    >>> Distortion(zoom=0.2)(torch.ones(2, 1, 8, 8), generator).shape
    torch.Size([2, 1, 8, 8])
    """

    zoom: float = 0.0
    shear: float = 0.0
    flip: bool = False

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Distort float images (N, C, H, W); what comes into view beyond their edge repeats the edge."""
        count = len(images)
        draws = torch.rand(4, count, generator=generator).to(images)
        zoom_x, zoom_y = 1 + self.zoom * (2 * draws[:2] - 1)
        shear = self.shear * (2 * draws[2] - 1)
        mirror = 1 - 2 * (draws[3] < 0.5).to(images) if self.flip else torch.ones_like(shear)
        zero = torch.zeros_like(shear)
        rows = [torch.stack([zoom_x * mirror, shear, zero], -1), torch.stack([zero, zoom_y, zero], -1)]
        grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def class_weights(labels: Any, classes: int) -> Tensor:
    """The weight of every class, inverse to its number of samples: N / (C n), 0 for a class without any.

    C counts the classes that have samples, so that the mean over all samples is 1.

    Source: EmoSynthNet thesis, section 3.3.2 (more weight for classes with fewer labels), in the form of
    scikit-learn's `balanced`.

    Examples
    --------
    >>> class_weights([0, 0, 0, 1], 2)
    tensor([0.6667, 2.0000])
    """
    counts = torch.bincount(torch.as_tensor(labels), minlength=classes).float()
    return torch.where(counts > 0, counts.sum() / ((counts > 0).sum() * counts.clamp_min(1)), 0.0)
