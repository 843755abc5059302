"""Copies of pictures with a box around every face, its age and its interval."""

import functools
import hashlib
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from pipeline.core.files import Unusable, open_regular, printable
from pipeline.core.places import folder_below
from pipeline.core.pool import ordered_map
from pipeline.core.tables import atomic_file
from pipeline.faces.images import Rejection, decode
from pipeline.serving.inputs import Source
from pipeline.serving.label_drawing import drawn_on
from pipeline.serving.looking import FACE

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

Task = tuple[Source, list[dict[str, Any]]]


class NotDrawnWarning(UserWarning):
    """A copy that could not be written."""


def draw_all(
    folder: Path,
    sources: Sequence[Source],
    rows: Sequence[dict[str, Any]],
    max_pixels: int,
    *,
    workers: int,
    timeout: float,
) -> None:
    """Draw every picture that has a face; one that cannot be drawn, or written, is warned of.

    Decoding and drawing are the work of processes; their files are written here, so that a process that
    is killed leaves none unfinished.

    Parameters
    ----------
    folder
        Where the copies go, under the pictures' names.
    sources, rows
        Pictures, and rows of the table of predictions for them.
    max_pixels, workers, timeout
        As for the detection.
    """
    faces: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["status"] == FACE:
            faces.setdefault(row["file"], []).append(row)
    wanted = [(source, faces[source.file]) for source in sources if source.file in faces]
    make = functools.partial(make_drawer, max_pixels)
    with closing(ordered_map(make, wanted, workers=workers, timeout=timeout)) as copies:
        for (source, _), copy in zip(wanted, copies, strict=True):
            path = copy_path(folder, source.file)
            why = write(folder, path, copy) if isinstance(copy, bytes) else copy.detail
            if why is not None:
                warnings.warn(f"{source.file} was not drawn: {why}", NotDrawnWarning, stacklevel=2)


def make_drawer(max_pixels: int) -> Callable[[Task], bytes | Rejection]:
    """`draw`, in a worker process."""
    return functools.partial(draw, max_pixels=max_pixels)


def draw(task: Task, max_pixels: int) -> bytes | Rejection:
    """A picture's copy with what was found drawn on it, a JPEG; or why there is none."""
    source, rows = task
    copy = BytesIO()
    try:
        image = drawn_on(Image.fromarray(decode(source.read(), max_pixels=max_pixels)), rows)
        image.save(copy, "JPEG", quality=90, comment=MARK)
    except Exception as error:  # noqa: BLE001 - whatever it is
        return Rejection.of(error)
    return copy.getvalue()


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


def write(folder: Path, path: Path, copy: bytes) -> str | None:
    """Write a copy below a folder; where that is refused, why, in a sentence."""
    try:
        with folder_below(folder, path.relative_to(folder).parts[:-1]) as place:
            why = "something else is there" if not is_free(path.name, place) else None
            if why is None:
                with atomic_file(Path(path.name), folder=place) as file:
                    file.write(copy)
    except OSError as error:
        why = str(error.strerror or error)
    return why and f"its copy {printable(str(path))} cannot be written ({why})"


def is_free(name: str, folder: int) -> bool:
    """Whether a copy may have a name in an open folder: nothing is there, or an earlier copy."""
    try:
        with open_regular(name, folder) as file:
            return MARKED.match(file.read(LOOKED_AT)) is not None
    except FileNotFoundError:
        return True
    except Unusable:
        return False
