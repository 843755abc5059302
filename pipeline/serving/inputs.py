"""Which pictures: files and folders walked in a fixed order and never listed whole."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.core.files import printable
from pipeline.core.places import resolved
from pipeline.faces.images import Rejection, read_file

Stamp = tuple[int, int] | None


@dataclass(frozen=True)
class Source:
    """One picture to look at.

    Attributes
    ----------
    file
        What it is called in the results.
    root, path
        A folder, and where below it the file lies; no link leads out of there.
    data
        The bytes themselves, where it is no file.
    hashed
        Whether these bytes are somebody's, so that their hash means something.
    trouble
        Why it cannot be read at all.
    warnings
        What was odd about it before it was made bytes.
    """

    file: str
    root: str = ""
    path: str = ""
    data: bytes | None = None
    hashed: bool = True
    trouble: Rejection | None = None
    warnings: tuple[str, ...] = ()

    def read(self) -> bytes:
        """Its bytes; `ImageRejected` where they cannot be read."""
        return read_file(self.path, Path(self.root)) if self.data is None else self.data

    def stamp(self) -> Stamp:
        """Size and time of change, which tell whether a file is still the one it was."""
        try:
            status = os.stat(os.path.join(self.root, self.path))  # noqa: PTH116, PTH118 - a hundred thousand
        except (OSError, ValueError):
            return None
        return status.st_size, status.st_mtime_ns


def walk(paths: Sequence[Path], met: Callable[[tuple[int, int]], None] | None = None) -> Iterator[Source]:
    """Every file named, and every file in the folders named and below, in the order of names.

    All files are taken, whatever their names say: a photograph may be called anything. Links to folders are
    not followed, so that there are no circles; links to files are, if they stay in the folder. A folder that
    cannot be listed is a source, too, with the reason. `met` is told device and inode of each folder.

    Raises
    ------
    UserError
        A path does not exist, or is a link that leads to itself.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise UserError(f"{path} does not exist: name a picture or a folder of pictures")
    for path in paths:
        if path.is_dir():
            yield from _below(str(path), printable(str(path)), met)
        else:
            real = resolved(path)  # a link that is named is followed, unlike those met on the way
            yield Source(printable(str(path)), str(real.parent), real.name)


def _below(root: str, name: str, met: Callable[[tuple[int, int]], None] | None) -> Iterator[Source]:
    troubles: list[Source] = []

    def called(relative: str) -> str:
        return f"{name}/{printable(relative)}" if relative else name

    def unlisted(relative: str, error: OSError) -> None:
        why = f"the folder cannot be listed ({error.strerror or error})"
        troubles.append(Source(called(relative), root, relative, trouble=Rejection("unreadable", why)))

    for relative in files.walk(root, unlisted, met):
        yield from troubles
        troubles.clear()
        yield Source(called(relative), root, relative)
    yield from troubles


def count(paths: Sequence[Path], met: Callable[[tuple[int, int]], None] | None = None) -> int:
    """How many files `walk` will give."""
    return sum(1 for _ in walk(paths, met))
