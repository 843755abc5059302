"""Opening other people's folders and files: inside the root, regular, never changed, never waited for."""

import errno
import io
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pipeline.core.errors import UserError

AGAIN = "run the stage that writes it again (dvc repro)"
JOINERS = "\u200c\u200d"  # parts of words and of emoji, which are no ASCII
# What is drawn as nothing although it counts as a letter, mark or symbol. Variation selectors after a letter,
# sign or symbol stay: they make an emoji of it.
BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufff9-\ufffb]")
SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")


class Unusable(Exception):
    """A file that cannot be taken: `reason` is a short word to count by, the message a phrase to read."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def printable(name: str) -> str:
    r"""A file's name as it can be stored and shown, never the same for two names.

    A backslash is doubled, bytes that are not UTF-8 become `\x..`, and control characters are escaped. A name
    that holds none of them stays as it is, with spaces and joiners of every kind.

    Examples
    --------
    >>> printable("caf\udce9\n.jpg"), printable(r"caf\xe9.jpg"), printable("café 1.jpg")
    ('caf\\xe9\\n.jpg', 'caf\\\\xe9.jpg', 'café 1.jpg')
    """
    return escaped(name.replace("\\", "\\\\"))


def escaped(text: str) -> str:
    r"""Text whose own backslashes are escapes already, such as what `repr` gives; else as `printable`.

    Examples
    --------
    >>> escaped(r"'a\n' and" + "\n")
    "'a\\n' and\\n"
    """
    if text.isascii() and text.isprintable():
        return text
    data = text.encode("utf-8", "surrogateescape" if is_decoded_bytes(text) else "replace")
    decoded = data.decode("utf-8", "backslashreplace")
    return "".join(_shown(decoded))


def shorten(value: object, limit: int = 60) -> str:
    """A value for a message, cut where it is long."""
    text = escaped(repr(value[: limit + 1] if isinstance(value, str | bytes) else value))
    return text if len(text) <= limit else f"{text[:limit]}..."


def listed(names: Sequence[str], most: int = 30) -> str:
    """Names of columns for a message: neither too many nor too long, whoever has chosen them.

    Examples
    --------
    >>> listed(["path", " age", "a" * 99], most=2)
    "path, ' age' and 1 more"
    """
    shown = [name if name == name.strip() and len(name) <= 60 else shorten(name) for name in names[:most]]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return escaped(", ".join(shown)) + more


def _shown(text: str) -> Iterator[str]:
    before = ""
    for char in text:
        if char in JOINERS:
            kept = not before.isascii()
        elif SELECTORS.match(char):
            kept = bool(before) and not SELECTORS.match(before) and unicodedata.category(before)[0] in "SNLP"
        else:
            kept = (char.isprintable() and not BLANK.match(char)) or unicodedata.category(char) == "Zs"
        # not \x.. from 0x80 on, which stands for a byte
        yield char if kept else f"\\u{ord(char):04x}" if 0x80 <= ord(char) <= 0xFF else ascii(char)[1:-1]
        before = char if kept else ""  # nothing belongs to an escape


def is_decoded_bytes(text: str) -> bool:
    """Whether text's surrogates, if any, stand for bytes of a file name that is not UTF-8."""
    return _is_encodable(text, "surrogateescape")


def is_unicode(text: str) -> bool:
    """Whether text can be written as UTF-8, as every text column must."""
    return _is_encodable(text, "strict")


def _is_encodable(text: str, errors: str) -> bool:
    try:
        text.encode("utf-8", errors)
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def utf8_name(path: Path) -> Iterator[str]:
    """A name of a file for libraries that take only UTF-8, whatever its folders are called."""
    try:
        os.fsencode(path).decode()
    except UnicodeDecodeError:
        with path.open("rb") as file:
            yield f"/dev/fd/{file.fileno()}"
    else:
        yield str(path)


def open_inside(root: str, path: str, *, empty: bool = False) -> io.BufferedReader:
    """Open a file below a root for reading, without following it out of the root or waiting for it.

    Parameters
    ----------
    root
        The root with its own symlinks resolved (`os.path.realpath`).
    path
        Relative to the root, with forward slashes.
    empty
        Open a file without bytes too.

    Raises
    ------
    Unusable
        `bad_path`, `outside_root`, `missing_file`, `dangling_symlink`, `not_a_file`, `unreadable` or
        `empty_file`.
    """
    if not path or "\0" in path:
        raise Unusable("bad_path", "the path is empty or holds a NUL byte")
    if path.startswith("/"):
        raise Unusable("outside_root", "the path is absolute: write it relative to the root")
    if ".." in PurePosixPath(path).parts:
        raise Unusable("outside_root", "the path contains '..': write it relative to the root")
    full = os.path.join(root, path)  # noqa: PTH118 - thousands of times a second
    try:
        resolved = os.path.realpath(full)
    except (OSError, RecursionError) as error:  # it follows more links than the machine would
        raise Unusable("dangling_symlink", "a chain of symlinks too long to follow") from error
    if os.path.commonpath([root, resolved]) != root:
        raise Unusable("outside_root", "a symlink leads out of the root")
    try:
        file = open_regular(resolved)
    except OSError as error:
        raise Unusable(*why_unreadable(full, error)) from error
    if os.fstat(file.fileno()).st_size == 0 and not empty:
        file.close()
        raise Unusable("empty_file", "the file has no bytes")
    return file


def open_regular(resolved: str, folder: int | None = None) -> io.BufferedReader:
    """Open a file for reading that is a file, and no pipe, device or folder, without waiting for it.

    Parameters
    ----------
    resolved
        Its place with its symlinks resolved (`os.path.realpath`).
    folder
        An open folder that a bare name is in, which is no link, then.

    Raises
    ------
    Unusable
        `not_a_file`.
    OSError
        It cannot be opened.
    """
    # The type is asked before opening (opening a device may act on it) and again after (it may have
    # been exchanged); non-blocking, because a pipe without a writer would never open.
    if not stat.S_ISREG(os.stat(resolved, dir_fd=folder, follow_symlinks=folder is None).st_mode):
        raise Unusable("not_a_file", "a folder, pipe, socket or device, not a file")
    file = open(  # noqa: SIM115 - the caller closes it
        resolved,
        "rb",
        opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=folder),
    )
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Unusable("not_a_file", "a folder, pipe, socket or device, not a file")
    return file


@contextmanager
def opened(path: Path, again: str = AGAIN) -> Iterator[io.BufferedReader]:
    """Open a file that must be one, for reading.

    Raises
    ------
    UserError
        It is missing, no regular file, or cannot be read.
    """
    try:
        file = open_regular(os.path.realpath(path))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} does not exist: {again}") from None
    except Unusable as error:
        raise UserError(f"{path} is {error}: {again}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}): {again}") from None
    with file:
        yield file


def why_unreadable(full: str, error: OSError) -> tuple[str, str]:
    """A reason and a phrase for a file that would not open."""
    if os.path.islink(full) and error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):  # noqa: PTH114 - is_symlink raises where this is False
        return "dangling_symlink", "a symlink to nothing"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "missing_file", "there is no such file"
    return "unreadable", f"cannot be read ({error.strerror or type(error).__name__})"


def walk(
    root: str, unlisted: Callable[[str, OSError], None], met: Callable[[tuple[int, int]], None] | None = None
) -> Iterator[str]:
    """Every file below a folder, relative to it, in the order of names, folders among the files.

    Links to folders are given as files and not followed, so that there are no circles. Nothing is recursive,
    however deep folders are; one folder's listing for each depth is in memory, and shrinks as it is given.

    Parameters
    ----------
    root
        The folder.
    unlisted
        Told of each folder that cannot be listed, relative to the root, and why: it is not permitted, gone
        meanwhile, or its path is longer than the machine takes.
    met
        Told device and inode of each folder.
    """
    depths = [_listed(root, "", unlisted, met)]
    while depths:
        names, folders, relative = depths[-1]
        if not names:
            depths.pop()
            continue
        name = names.pop()
        inner = f"{relative}/{name}" if relative else name
        if name in folders:
            depths.append(_listed(root, inner, unlisted, met))
        else:
            yield inner


def _listed(
    root: str,
    relative: str,
    unlisted: Callable[[str, OSError], None],
    met: Callable[[tuple[int, int]], None] | None,
) -> tuple[list[str], set[str], str]:
    names, folders = [], set()
    full = os.path.join(root, relative) if relative else root  # noqa: PTH118
    try:
        # one that has become a link since its parent was listed is not followed
        status = os.stat(full, follow_symlinks=not relative)  # noqa: PTH116
        if stat.S_ISLNK(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "it has become a link")
        if met is not None:
            met((status.st_dev, status.st_ino))
        with os.scandir(full) as listing:
            for entry in listing:
                names.append(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    folders.add(entry.name)
    except OSError as error:
        unlisted(relative, error)
        return [], set(), relative
    names.sort(reverse=True)
    return names, folders, relative
