"""Copies of pictures with a box around every face, its age and its interval."""

import hashlib
import re
import warnings
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from pipeline.faces.images import ImageRejected, decode, read_file
from pipeline.serving.rows import FACE
from pipeline.serving.sources import Source
from pipeline.tables import atomic_file

COLOUR, DOUBTFUL = (0, 114, 178), (213, 94, 0)
JPEG, DRAWN = (".jpg", ".jpeg"), ".drawn.jpg"
MARK = b"drawn by vec2age"
"""The comment in every copy: a picture without it is nobody's to replace."""
LONGEST = 240  # bytes: file systems take 255, and atomic_file writes 14 more in the meantime
STANDING_FOR = re.compile("_+(root|up)")


class NotDrawnWarning(UserWarning):
    """A copy that could not be written."""


def draw_all(
    folder: Path, sources: Sequence[Source], rows: Sequence[dict[str, Any]], pool: Executor, max_pixels: int
) -> None:
    """Draw every picture that has a face; a copy that cannot be written is warned of.

    Parameters
    ----------
    folder
        Where the copies go, under the pictures' names.
    sources, rows
        Pictures, and rows of the table of predictions for them.
    pool
        Threads.
    max_pixels
        As for the detection.
    """
    faces: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["status"] == FACE:
            faces.setdefault(row["file"], []).append(row)
    wanted = [(folder, source, faces[source.file], max_pixels) for source in sources if source.file in faces]
    # decode silences warnings, which is for the whole process: where threads overlap, they stay silenced
    with warnings.catch_warnings():
        found = [task.result() for task in [pool.submit(draw_one, *arguments) for arguments in wanted]]
    for why in found:
        if why is not None:
            warnings.warn(why, NotDrawnWarning, stacklevel=2)


def copy_path(folder: Path, file: str) -> Path:
    """Where a picture's copy lies: below the folder, whatever the name says, a JPEG, and no two at one place.

    Whatever stands for something else could be the name of something, too: that then gets one more.

    Examples
    --------
    >>> copy_path(Path("out"), "../photos/a.png").as_posix()
    'out/_up/photos/a.png.drawn.jpg'
    """
    *folders, name = [inside(part) for part in PurePosixPath(file).parts]
    folders = [one + DRAWN if one.lower().endswith(DRAWN) else one for one in folders]
    if not name.lower().endswith(JPEG) or name.lower().endswith(DRAWN):
        name += DRAWN
    return folder.joinpath(*(shortened(one) for one in folders), shortened(name, DRAWN))


def shortened(name: str, end: str = "") -> str:
    """A name that file systems take: what is too long ends in a hash, and is as long as no other name.

    Examples
    --------
    >>> shortened("a.png.drawn.jpg", ".drawn.jpg")
    'a.png.drawn.jpg'
    >>> len(shortened("a" * 300, ".drawn.jpg"))
    240
    """
    data = name.encode()
    if len(data) < LONGEST:
        return name
    end = f".{hashlib.sha256(data).hexdigest()[:32]}{end}"
    room = LONGEST - len(end)
    start = data[:room].decode(errors="ignore")  # not half a character
    return start + "_" * (room - len(start.encode())) + end


def inside(part: str) -> str:
    """A part of a path as a plain name: `_root` for the root, `_up` for the folder above.

    Examples
    --------
    >>> [inside(part) for part in ("/", "..", "a", "_up", "__up")]
    ['_root', '_up', 'a', '__up', '___up']
    """
    if part.startswith("/"):
        return "_root"
    if part == "..":
        return "_up"
    return f"_{part}" if STANDING_FOR.fullmatch(part) else part


def draw_one(folder: Path, source: Source, rows: Sequence[dict[str, Any]], max_pixels: int) -> str | None:
    """Draw one picture; a file that is no picture any more since it was looked at is passed over.

    Returns
    -------
    str or None
        Why the copy could not be written, in a sentence.
    """
    try:
        data = read_file(source.path, Path(source.root)) if source.data is None else source.data
        image = Image.fromarray(decode(data, max_pixels=max_pixels))
    except ImageRejected:
        return None
    pen = ImageDraw.Draw(image)
    size = max(12, min(image.size) // 25)
    font = ImageFont.load_default(size)
    for row in rows:
        colour = DOUBTFUL if row["warnings"] else COLOUR
        box = (row["left"], row["top"], row["right"], row["bottom"])
        pen.rectangle(box, outline=colour, width=max(2, size // 8))
        text = f"{row['prediction']:.0f} ({row['lower']:.0f} to {row['upper']:.0f})"
        place = (box[0], box[1] - size * 1.3 if box[1] > size * 1.3 else box[3])
        pen.rectangle(pen.textbbox(place, text, font=font), fill=colour)
        pen.text(place, text, fill=(255, 255, 255), font=font)
    path = copy_path(folder, source.file)
    try:
        why = "something else is there" if path.exists() and not is_copy(path) else None
        if why is None:
            with atomic_file(path) as file:
                image.save(file, "JPEG", quality=90, comment=MARK)
    except OSError as error:
        why = str(error.strerror or error)
    return None if why is None else f"{source.file} was not drawn: its copy {path} cannot be written ({why})"


def is_copy(path: Path) -> bool:
    """Whether a file is a copy that was drawn before."""
    if not path.is_file():
        return False
    try:
        with Image.open(path) as image:
            return bool(image.info.get("comment") == MARK)
    except (UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError):
        return False
