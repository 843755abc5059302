"""What lies below a data set's root: its files listed, hashed and read, each opened with care."""

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from pipeline.core import files as opening
from pipeline.core.errors import UserError
from pipeline.core.files import Unusable, escaped, is_unicode, open_inside, printable
from pipeline.core.rejects import Rejects
from pipeline.datasets.formats.limited import parsing

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})


Hashed = dict[tuple[int, int, int, int], str]
"""Hashes of files by device, inode, size and time of change."""


def digest(root: str, path: str, known: Hashed) -> str:
    """The sha256 of a file's bytes, hex, read in pieces; raises `Unusable` like `open_inside`.

    A file whose hash is known, under whatever name, is not read again.
    """
    if not is_unicode(path):
        raise Unusable("bad_path", "the path is not valid UTF-8: rename the file")
    with open_inside(root, path) as file:
        status = os.fstat(file.fileno())
        key = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        try:
            if key not in known:
                known[key] = hashlib.file_digest(file, "sha256").hexdigest()
            return known[key]
        except OSError as error:
            raise Unusable("unreadable", f"reading failed ({error.strerror})") from error


def contents(root: str, path: str, most: int) -> bytes:
    """The bytes of a small file with labels; raises `Unusable` like `open_inside`, or for a larger one."""
    with open_inside(root, path) as file:
        try:
            data = file.read(most + 1)
        except OSError as error:
            raise Unusable("unreadable", f"reading failed ({error.strerror})") from error
    parsing(Path(root, path))
    if len(data) > most:
        size = f"{most >> 20} MiB" if most >= 1 << 20 else f"{most >> 10} KiB"
        raise Unusable("too_many_bytes", f"a file with labels of more than {size}")
    return data


def walk(root: Path, rejects: Rejects) -> Iterator[str]:
    """Every file below a root, as sorted relative paths; symlinks to folders are named, not followed."""

    def unlisted(relative: str, error: OSError) -> None:
        rejects.add(
            stage="ingest",
            reason="unreadable",
            detail=f"the folder cannot be listed ({error.strerror or error})",
            path=printable(relative or "."),
        )

    yield from sorted(opening.walk(str(root), unlisted))


def pictures(root: Path, rejects: Rejects, beside: Collection[str] = ()) -> list[str]:
    """The picture files below a root, by their names' endings; the others are counted by ending.

    `beside` names endings that belong there, such as those of files with labels, and are not counted.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: set data.root to the folder of the pictures")
    taken, others = [], Counter[str]()
    for path in walk(root, rejects):
        suffix = PurePosixPath(path).suffix.lower()
        if suffix in PICTURE_SUFFIXES:
            taken.append(path)
        elif suffix not in beside:
            others[suffix] += 1
    for suffix, count in sorted(others.items()):
        ending = f"ending in {suffix!r}" if suffix else "without an ending"
        rejects.add(
            stage="ingest", reason="not_a_picture", detail=f"{count} file(s) {escaped(ending)} in {root}"
        )
    if not taken:
        raise UserError(f"{root} holds no picture: set data.root to the folder of the pictures")
    return taken


def source_file(root: Path, name: str) -> Path:
    """A table that a reader needs, below the root (or the root itself); a `UserError` if it is not there."""
    path = root if root.is_file() else root / name
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise UserError(f"{path} {what}: name the table with the setting 'table', relative to {root}")
    parsing(path)
    return path


def source_files(root: Path, pattern: str) -> list[Path]:
    """The files of a vector set: the root itself, or those in it that match a pattern, sorted."""
    if root.is_file():
        files = [root]
    else:
        files = sorted(path for path in root.glob(pattern) if path.is_file()) if root.is_dir() else []
    if not files:
        raise UserError(f"{root} holds no {pattern}: set data.root to the file, or to the folder it lies in")
    for path in files:
        parsing(path)
    return files


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a text file of labels that are not blank, each after the place that messages name."""
    parsing(path)
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"{path.name}, line {number}", line
