"""Which pictures: files and folders walked in a fixed order and never listed whole."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.faces.extract import Rejection
from pipeline.opening import printable

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

    def stamp(self) -> Stamp:
        """Size and time of change, which tell whether a file is still the one it was."""
        try:
            status = os.stat(os.path.join(self.root, self.path))  # noqa: PTH116, PTH118 - a hundred thousand
        except (OSError, ValueError):
            return None
        return status.st_size, status.st_mtime_ns


def walk(paths: Sequence[Path]) -> Iterator[Source]:
    """Every file named, and every file in the folders named and below, in the order of names.

    All files are taken, whatever their names say: a photograph may be called anything. Links to folders are
    not followed, so that there are no circles; links to files are, if they stay in the folder. Only one
    folder's listing for each depth is in memory.

    Raises
    ------
    UserError
        A path does not exist.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise UserError(f"{path} does not exist: name a picture or a folder of pictures")
    for path in paths:
        if path.is_dir():
            yield from _below(str(path), "", printable(str(path)))
        else:
            real = path.resolve()  # a link that is named is followed, unlike those met on the way
            yield Source(printable(str(path)), str(real.parent), real.name)


def _below(root: str, relative: str, name: str) -> Iterator[Source]:
    try:
        with os.scandir(os.path.join(root, relative)) as listing:  # noqa: PTH118
            entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        yield Source(
            name, root, relative, trouble=Rejection("unreadable", f"the folder cannot be listed ({why})")
        )
        return
    for entry, is_folder in entries:
        inner, called = (f"{relative}/{entry}" if relative else entry), f"{name}/{printable(entry)}"
        if is_folder:
            yield from _below(root, inner, called)
        else:
            yield Source(called, root, inner)


def count(paths: Sequence[Path]) -> int:
    """How many files `walk` will give."""
    return sum(1 for _ in walk(paths))
