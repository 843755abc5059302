"""An image file as a small one, for networks that learn from whole images: decoded as faces are."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.faces.images import Rejection, decode, read_file

Small = npt.NDArray[np.uint8]


def resized(path: str, root: Path, size: int, colour: bool) -> Small | Rejection:
    """One image file as (size, size), or in colour as (size, size, 3); or why it cannot be used."""
    try:
        image = Image.fromarray(decode(read_file(path, root)))
    except Exception as error:  # noqa: BLE001 - whatever it is
        return Rejection.of(error)
    if not colour:
        image = image.convert("L")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def make_resizer(root: Path, size: int, colour: bool) -> Callable[[str], Small | Rejection]:
    """`resized`, in a worker process."""
    return functools.partial(resized, root=root, size=size, colour=colour)
