"""Pictures given in Python, one or many: paths, bytes, open files, arrays, Pillow images.

What is one picture and what is many is never guessed. Of many, one that cannot be used costs itself alone.
"""

import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.core.files import printable
from pipeline.core.tables import first_line
from pipeline.faces.images import MAX_BYTES, MAX_PIXELS, ImageRejected, Rejection, from_image
from pipeline.serving.inputs import Source, walk

KINDS = "give paths, bytes, files opened as binary, Pillow images or arrays (H, W, 3) of uint8"
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def in_memory(images: Any, max_pixels: int = MAX_PIXELS) -> Iterator[Source]:
    """One picture or many: a list, a tuple, an iterator, an array (N, H, W, 3), a column of a table.

    Parameters
    ----------
    images
        What to look at.
    max_pixels
        A larger Pillow image or array gets a reason in place of a look.

    Raises
    ------
    UserError
        It is neither, or there is none.
    """
    many = _many(images)
    found = 0
    for number, image in enumerate([images] if many is None else many):
        try:
            for source in _sources(image, number, max_pixels):
                found += 1
                yield source
        except (UserError, OSError, ValueError) as error:
            if many is None:
                raise
            found += 1
            yield _unusable(image, number, error)
    if not found:
        raise UserError("no picture was given: name a picture, a folder that holds one, or a list of them")


def _many(images: Any) -> Iterable[Any] | None:
    """What holds several pictures, as an iterable; None for one, or for something that has no order."""
    if _is_stream(images) or isinstance(images, str | bytes | bytearray | memoryview | os.PathLike):
        return None
    if isinstance(images, pa.Array | pa.ChunkedArray):
        values: list[Any] = images.to_pylist()
        return values
    if isinstance(images, np.ndarray):
        several = images.ndim == 4 or (images.ndim == 1 and images.dtype.kind in "OUS")
        return images if several else None
    if isinstance(images, Iterator | Sequence):
        return images
    # a column of pandas: a row after the other, whose labels do not matter
    column = getattr(images, "to_list", None)
    return list(column()) if callable(column) and getattr(images, "ndim", 0) == 1 else None


def _is_stream(image: Any) -> bool:
    return callable(getattr(image, "read", None))


def _sources(image: Any, number: int, max_pixels: int) -> Iterator[Source]:
    if isinstance(image, str | os.PathLike):
        yield from walk([_path(image, number)])
    elif isinstance(image, bytes | bytearray | memoryview):
        yield Source(_name(number), data=bytes(image))
    elif _is_stream(image):
        yield _of_stream(image, number)
    elif isinstance(image, Image.Image):
        yield _of_image(image, number, max_pixels)
    elif isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,):
        if image.size:
            yield _of_image(Image.fromarray(np.ascontiguousarray(image)), number, max_pixels)
        else:
            yield _without(number, "no_pixels", f"an array {image.shape} holds no pixel")
    else:
        kind = f"an array {image.shape} of {image.dtype}" if isinstance(image, np.ndarray) else type(image)
        raise UserError(f"{_name(number)} is {kind}: {KINDS}")


def _path(image: Any, number: int) -> Path:
    text = os.fsdecode(image)
    if not text:
        raise UserError(f"{_name(number)} is an empty path: name a picture or a folder of pictures")
    if ADDRESS.match(text) and not os.path.lexists(text):
        raise UserError(
            f"{printable(text[:60])} is an address: nothing is downloaded, name a file or a folder"
        )
    return Path(text)


def _unusable(image: Any, number: int, error: Exception) -> Source:
    """One of many that cannot be used; a path, there or not, keeps its name."""
    text = os.fsdecode(image) if isinstance(image, str | os.PathLike) else ""
    if not text or ADDRESS.match(text):
        return _without(number, "not_an_image", first_line(error))
    reason = "not_an_image" if os.path.lexists(text) else "missing_file"
    return Source(printable(text), trouble=Rejection(reason, first_line(error)))


def _of_stream(stream: Any, number: int) -> Source:
    """One picture from an open file, from its beginning if it can go there; it stands then where it stood."""
    try:
        before = stream.tell() if stream.seekable() else None
        if before is not None:
            stream.seek(0)
        data = stream.read(MAX_BYTES + 1)
        if before is not None:
            stream.seek(before)
    except (AttributeError, OSError, ValueError, TypeError) as error:
        return _without(number, "unreadable", f"reading failed ({first_line(error)})")
    if not isinstance(data, bytes):
        raise UserError(f'{_name(number)} is a file opened as text: open it with mode "rb"')
    if len(data) > MAX_BYTES:
        return _without(number, "too_many_bytes", f"it has more than {MAX_BYTES:,} bytes")
    return Source(_name(number), data=data)


def _of_image(image: Image.Image, number: int, max_pixels: int) -> Source:
    """Its upright pixels, which is what its file would have given."""
    try:
        decoded = from_image(image, max_pixels=max_pixels)
    except ImageRejected as error:
        return _without(number, error.reason, error.detail)
    buffer = io.BytesIO()
    Image.fromarray(decoded.pixels).save(buffer, "PNG", compress_level=1)
    return Source(_name(number), data=buffer.getvalue(), hashed=False, warnings=decoded.warnings)


def _without(number: int, reason: str, detail: str) -> Source:
    return Source(_name(number), trouble=Rejection(reason, detail))


def _name(number: int) -> str:
    return f"picture {number}"
