"""Opening other people's files: inside the root, regular, readable, never changed, never waited for."""

import errno
import hashlib
import io
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from pipeline.errors import UserError
from pipeline.rejects import Rejects

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})


class Unusable(Exception):
    """A file that cannot be taken: `reason` is a short word to count by, the message a phrase to read."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def printable(text: str) -> str:
    r"""Text as it can be stored and shown: what is not Unicode as `\x..`, control characters escaped.

    Examples
    --------
    >>> printable("caf\udce9\n.jpg")
    'caf\\xe9\\n.jpg'
    """
    data = text.encode("utf-8", "surrogateescape" if is_decoded_bytes(text) else "replace")
    shown = data.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in shown)


def is_decoded_bytes(text: str) -> bool:
    """Whether text's surrogates, if any, stand for bytes of a file name that is not UTF-8."""
    return all(not 0xD800 <= ord(char) <= 0xDFFF or 0xDC80 <= ord(char) <= 0xDCFF for char in text)


def is_unicode(text: str) -> bool:
    """Whether text can be written as UTF-8, as every text column must."""
    return not any(0xD800 <= ord(char) <= 0xDFFF for char in text)


def open_inside(root: str, path: str) -> io.BufferedReader:
    """Open a file below a root for reading, without following it out of the root or waiting for it.

    Parameters
    ----------
    root
        The root with its own symlinks resolved (`os.path.realpath`).
    path
        Relative to the root, with forward slashes.

    Raises
    ------
    Unusable
        `bad_path`, `outside_root`, `missing_file`, `dangling_symlink`, `not_a_file`, `unreadable` or
        `empty_file`.
    """
    if not path or "\0" in path:
        raise Unusable("bad_path", "the path is empty or holds a NUL byte")
    if not is_unicode(path):
        raise Unusable("bad_path", "the path is not valid UTF-8: rename the file")
    if path.startswith("/"):
        raise Unusable("outside_root", "the path is absolute: write it relative to the root")
    if ".." in PurePosixPath(path).parts:
        raise Unusable("outside_root", "the path contains '..': write it relative to the root")
    full = os.path.join(root, path)  # noqa: PTH118 - thousands of times a second
    resolved = os.path.realpath(full)
    if os.path.commonpath([root, resolved]) != root:
        raise Unusable("outside_root", "a symlink leads out of the root")
    try:
        # The type is asked before opening (opening a device may act on it) and again after (it may have
        # been exchanged); non-blocking, because a pipe without a writer would never open.
        if not stat.S_ISREG(os.stat(full).st_mode):  # noqa: PTH116
            raise Unusable("not_a_file", "a folder, pipe, socket or device, not a file")
        file = open(  # noqa: SIM115 - the caller closes it
            full, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
        )
    except OSError as error:
        raise Unusable(*why_unreadable(full, error)) from error
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        file.close()
        raise Unusable("empty_file", "the file has no bytes")
    return file


def why_unreadable(full: str, error: OSError) -> tuple[str, str]:
    """A reason and a phrase for a file that would not open."""
    if os.path.islink(full) and error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):  # noqa: PTH114 - is_symlink raises where this is False
        return "dangling_symlink", "a symlink to nothing"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "missing_file", "there is no such file"
    return "unreadable", f"cannot be read ({error.strerror or type(error).__name__})"


def digest(root: str, path: str) -> str:
    """The sha256 of a file's bytes, hex, read in pieces; raises `Unusable` like `open_inside`."""
    with open_inside(root, path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise Unusable("unreadable", f"reading failed ({error.strerror})") from error


def contents(root: str, path: str, most: int) -> bytes:
    """The bytes of a small file with labels; raises `Unusable` like `open_inside`, or for a larger one."""
    with open_inside(root, path) as file:
        try:
            data = file.read(most + 1)
        except OSError as error:
            raise Unusable("unreadable", f"reading failed ({error.strerror})") from error
    if len(data) > most:
        raise Unusable("too_large", f"a file with labels of more than {most // 2**20} MiB")
    return data


def walk(root: Path, rejects: Rejects) -> Iterator[str]:
    """Every file below a root, as sorted relative paths; symlinks to folders are named, not followed."""

    def unreadable(error: OSError) -> None:
        where = os.path.relpath(os.fsdecode(error.filename), root)
        rejects.add(
            stage="ingest",
            reason="unreadable",
            detail=f"the folder cannot be listed ({error.strerror})",
            path=printable(where),
        )

    found = []
    for folder, folders, files in os.walk(root, onerror=unreadable):
        base = PurePosixPath(os.path.relpath(folder, root))
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]  # noqa: PTH114, PTH118
        found += [str(base / name) for name in [*files, *links]]
    yield from sorted(found)


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
            stage="ingest", reason="not_a_picture", detail=f"{count} file(s) {printable(ending)} in {root}"
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
    return path


def source_files(root: Path, pattern: str) -> list[Path]:
    """The files of a vector set: the root itself, or those in it that match a pattern, sorted."""
    if root.is_file():
        return [root]
    files = sorted(path for path in root.glob(pattern) if path.is_file()) if root.is_dir() else []
    if not files:
        raise UserError(f"{root} holds no {pattern}: set data.root to the file, or to the folder it lies in")
    return files
