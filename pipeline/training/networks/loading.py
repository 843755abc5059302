"""Batches of faces for training: in an order and with changes that depend on seed and epoch alone.

Neither how many processes load, nor whether a run was interrupted between epochs, changes a byte.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.augmentation.transforms import Augmentation, centre
from pipeline.core.processes import loading
from pipeline.core.seeds import derive_seed
from pipeline.training.networks.arrays import learnt_from
from pipeline.training.networks.pixels import Block, Pixels

SOCKET_NAME = 107
"""Bytes that the name of a socket may have."""
Key = tuple[int, int]
"""Epoch and row."""


class Batch(NamedTuple):
    """Pictures (N, 3, S, S) uint8, targets (N, K), weights (N,), and the faces' rows (N,)."""

    pixels: Tensor
    targets: Tensor
    weights: Tensor
    rows: Tensor


@dataclass(frozen=True)
class Faces:
    """The faces of one split: decoded pictures (N, S, S, 3) uint8, targets (N, K) and weights (N,)."""

    pixels: Pixels | Block
    targets: Tensor
    weights: Tensor

    def __len__(self) -> int:
        """How many."""
        return len(self.pixels)


class FaceData(Dataset[Batch]):
    """Faces by epoch and row, whole batches at once.

    Parameters
    ----------
    faces
        The faces.
    size
        Side of the network's input; larger pictures are cut, at random when augmented, else in the middle.
    augment
        Changes of training pictures; None: none.
    signs
        What a mirrored picture's targets are multiplied by, (K,): -1 for yaw and roll.
    seed
        Of the changes.
    """

    def __init__(
        self,
        faces: Faces,
        size: int,
        augment: Augmentation | None = None,
        signs: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        self.faces = faces
        self.size = size
        self.augment = augment
        self.signs = torch.ones(faces.targets.shape[1]) if signs is None else signs
        self.seed = seed

    def __len__(self) -> int:
        """How many faces there are."""
        return len(self.faces)

    def __getitem__(self, key: Key) -> Batch:
        """One face, as a batch of one."""
        return self.__getitems__([key])

    def __getitems__(self, keys: list[Key]) -> Batch:
        """A batch; torch's loader calls this with all keys at once."""
        rows = torch.tensor([row for _, row in keys])
        # Contiguous (N, H, W, 3) seen as (N, 3, H, W) is what torch calls channels_last.
        pixels = torch.from_numpy(np.ascontiguousarray(self.faces.pixels[rows.numpy()])).permute(0, 3, 1, 2)
        targets, weights = self.faces.targets[rows], self.faces.weights[rows]
        if self.augment is None:
            return Batch(centre(pixels, self.size), targets, weights, rows)
        seeds = [derive_seed(self.seed, "augment", *key) for key in keys]
        changed = [self.augment(image, seed) for image, seed in zip(pixels, seeds, strict=True)]
        mirrored = torch.tensor([flag for _, flag in changed])
        together = torch.stack([image for image, _ in changed])
        signs = torch.where(mirrored.unsqueeze(1), self.signs, 1.0)
        return Batch(together.contiguous(memory_format=torch.channels_last), targets * signs, weights, rows)


class EpochOrder(Sampler[Key]):
    """Epochs and rows: shuffled anew in every epoch, or in order; a share of them for one of several devices.

    Parameters
    ----------
    faces
        How many.
    seed
        Of the order; None: their own order.
    batch_size
        Of one device. A last batch of a single face, from which batch normalisation cannot learn, is left
        out when shuffled.
    rank, world
        Which device this is, of how many; each gets as many faces as the others when shuffled.

    Examples
    --------
    >>> [row for _, row in EpochOrder(5, seed=None)]
    [0, 1, 2, 3, 4]
    """

    def __init__(
        self, faces: int, seed: int | None, batch_size: int = 1, rank: int = 0, world: int = 1
    ) -> None:
        self.faces = faces
        self.seed = seed
        self.batch_size = batch_size
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning says which epoch begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        """How many faces one device sees in an epoch."""
        if self.seed is None:
            return len(range(self.rank, self.faces, self.world))
        return learnt_from(self.faces // self.world, self.batch_size)

    def __iter__(self) -> Iterator[Key]:
        """The keys of one epoch."""
        order = torch.arange(self.faces)
        if self.seed is not None:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch))
            order = torch.randperm(self.faces, generator=generator)
        mine = order[self.rank :: self.world][: len(self)]
        return iter([(self.epoch, row) for row in mine.tolist()])


def as_it_is(batch: Any) -> Any:
    """A batch that is complete already."""
    return batch


def one_thread(worker: int) -> None:
    """Leave the cores to the training."""
    torch.set_num_threads(1)


def can_hand_over() -> bool:
    """Whether processes can hand batches over: through sockets in the folder of temporary files.

    Where their names become too long for a socket, torch's loaders print a traceback and wait for ever.
    """
    names = os.fsencode(tempfile.gettempdir()) + b"/pymp-12345678/listener-12345678"
    return len(names) <= SOCKET_NAME


def loader(data: FaceData, order: EpochOrder, batch_size: int, processes: int) -> DataLoader[Batch]:
    """Batches of faces in an order, loaded by some processes beside the training; 0: by none.

    They live as long as the loader, and hold two batches each in advance. There are none where they could not
    hand batches over.
    """
    processes = processes if can_hand_over() else 0
    return DataLoader(
        data,
        batch_size=batch_size,
        sampler=order,
        num_workers=processes,
        multiprocessing_context=loading() if processes else None,
        collate_fn=as_it_is,
        worker_init_fn=one_thread,
        persistent_workers=processes > 0,
        generator=torch.Generator().manual_seed(0),  # else it would draw from the one that dropout draws from
        pin_memory=torch.cuda.is_available(),
    )
