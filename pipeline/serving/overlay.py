"""Copies of pictures with a box around every face, its age and its interval."""

import hashlib
import re
import warnings
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from pipeline.core.files import Unusable, open_regular, printable
from pipeline.core.places import folder_below
from pipeline.core.tables import atomic_file
from pipeline.faces.images import ImageRejected, decode, read_file
from pipeline.serving.inputs import Source
from pipeline.serving.label_drawing import drawn_on
from pipeline.serving.rows import FACE

JPEG, DRAWN = (".jpg", ".jpeg"), ".drawn.jpg"
MARK = b"drawn by vec2age"
"""The comment in every copy: a picture without it is nobody's to replace."""
LOOKED_AT = 2**16
MARKED = re.compile(
    rb"\xff\xd8(?:\xff\xe0\0\x10JFIF\0.{9})?\xff\xfe" + re.escape((len(MARK) + 2).to_bytes(2, "big") + MARK),
    re.DOTALL,
)
"""How a copy begins: no decoder looks at what somebody else put in its place."""
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
        image = drawn_on(Image.fromarray(decode(data, max_pixels=max_pixels)), rows)
    except ImageRejected:
        return None
    path = copy_path(folder, source.file)
    try:
        with folder_below(folder, path.relative_to(folder).parts[:-1]) as place:
            why = "something else is there" if not is_free(path.name, place) else None
            if why is None:
                with atomic_file(Path(path.name), folder=place) as file:
                    image.save(file, "JPEG", quality=90, comment=MARK)
    except OSError as error:
        why = str(error.strerror or error)
    if why is None:
        return None
    return f"{source.file} was not drawn: its copy {printable(str(path))} cannot be written ({why})"


def is_free(name: str, folder: int) -> bool:
    """Whether a copy may have a name in an open folder: nothing is there, or an earlier copy."""
    try:
        with open_regular(name, folder) as file:
            return MARKED.match(file.read(LOOKED_AT)) is not None
    except FileNotFoundError:
        return True
    except Unusable:
        return False
