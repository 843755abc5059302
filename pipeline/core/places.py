"""Where things are written: links followed, places compared by what they are, one writer at a time."""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.core.errors import UserError

Identity = tuple[int, int]
"""Device and inode: what two names of one place share, be it by links, bind mounts or the case of letters."""
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)

_held: set[int] = set()


def resolved(path: Path) -> Path:
    """A place by its own name, all links on the way followed, whether or not it exists yet.

    Raises
    ------
    UserError
        A link leads to itself, or through more links than can be followed.
    """
    try:
        real = os.path.realpath(path)
        circle = os.path.islink(real)  # noqa: PTH114 - nothing is left of a link that leads anywhere
    except RecursionError:
        circle = True
    if circle:
        raise UserError(f"{path} leads through links to nowhere, or to itself: name another place")
    return Path(real)


def identity(path: Path) -> Identity | None:
    """What a place is, whatever its name; None where nothing is there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def around(path: Path) -> frozenset[Identity]:
    """A place and all folders that it lies in, as far as they exist."""
    real = resolved(path)
    return frozenset(found for one in (real, *real.parents) if (found := identity(one)) is not None)


def lies_in(path: Path, other: Path) -> bool:
    """Whether a place is another, or lies in it, now or once it is made."""
    real = resolved(other)
    return identity(real) in around(path) or resolved(path).is_relative_to(real)


def is_same(path: Path, other: Path) -> bool:
    """Whether two names are of one place."""
    found = identity(path)
    return found == identity(other) if found is not None else resolved(path) == resolved(other)


@contextlib.contextmanager
def folder_below(root: Path, names: Sequence[str]) -> Iterator[int]:
    """Open a folder below another, made where it is missing; no link on the way is followed.

    Each name is opened from the folder before it, so that neither the length of the whole path nor whoever
    exchanges a folder for a link meanwhile matters.

    Raises
    ------
    OSError
        A folder cannot be made, or something else has its name.
    """
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=handle)
            kind = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
            if stat.S_ISLNK(kind):
                raise OSError(errno.ELOOP, f"{name} is a link, which is not followed")
            if not stat.S_ISDIR(kind):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def alone(lock: Path, sentence: str) -> Iterator[None]:
    """Hold a lock while the block runs; the machine releases it if this process is killed.

    A forked process does not share it, so that one which outlives this process keeps nothing locked.

    Parameters
    ----------
    lock
        A file that is made for it, and removed at the end.
    sentence
        What to say where another process holds it.

    Raises
    ------
    UserError
        Another process holds it.
    """
    handle = _taken(lock, sentence)
    _held.add(handle)
    try:
        yield
    finally:
        if handle in _held:  # not in a forked process
            _held.remove(handle)
            with contextlib.suppress(OSError):  # whoever waits for nothing looks for the file's name again
                lock.unlink()
            os.close(handle)


def _let_go() -> None:
    """In a forked process: close the locks that it has inherited."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


def _taken(lock: Path, sentence: str) -> int:
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        except FileNotFoundError:
            continue  # its holder has ended and removed the folder
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in UNSUPPORTED:
                return handle  # a file system without locks: as it was before there was one
            os.close(handle)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise UserError(sentence) from None
            raise
        status = os.fstat(handle)
        if identity(lock) == (status.st_dev, status.st_ino):
            return handle
        os.close(handle)  # its holder has ended and removed it since it was opened
