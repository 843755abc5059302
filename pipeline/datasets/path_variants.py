"""Which file a table means by a path: as written or, where no such file is there, in the one other way."""

import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

from pipeline.core.files import Unusable
from pipeline.datasets.listing import PICTURE_SUFFIXES, Hashed, digest

LOOKED_AT = 1000
"""Missing paths that are tried with other endings, for a hint."""


class OtherSuffixWarning(UserWarning):
    """Files that a table names are there with another ending."""


def meant(root: str, path: str, known: Hashed) -> tuple[str, str | Unusable]:
    """A path and its file's sha256, or why there is none.

    A file that is not there as written is looked for with slashes for backslashes, without blanks around it,
    below the root where it is absolute, in the other Unicode form, without percent codes, and with its ending
    in other letter case. Where that finds two different files, none is taken.
    """
    try:
        return path, digest(root, path, known)
    except Unusable as error:
        if error.reason not in ("missing_file", "outside_root", "bad_path"):
            return path, error
        problem = error
    found: dict[str, str] = {}
    for other in dict.fromkeys(others(root, path)):
        try:
            found[other] = digest(root, other, known)
        except Unusable:
            continue
    if len(set(found.values())) != 1:
        return path, problem
    return next(iter(found.items()))


def others(root: str, path: str) -> Iterator[str]:
    """Other ways to write a path that means the same to whoever wrote it."""
    written = {path.strip(), path.strip().replace("\\", "/")}
    written |= {one[len(root) :].lstrip("/") for one in written if one.startswith(f"{root.rstrip('/')}/")}
    written |= {unquote(one, errors="strict") for one in written if "%" in one and decodes(one)}
    for one in sorted(written):
        for form in dict.fromkeys((one, *(unicodedata.normalize(kind, one) for kind in ("NFC", "NFD")))):
            yield form
            base, suffix = os.path.splitext(form)  # noqa: PTH122 - a suffix may be in a folder's name
            yield from (base + suffix.lower(), base + suffix.upper())


def decodes(path: str) -> bool:
    """Whether a path's percent codes are text."""
    try:
        unquote(path, errors="strict")
    except UnicodeDecodeError:
        return False
    return True


def is_missing(result: str | Unusable) -> bool:
    """Whether there is no such file."""
    return isinstance(result, Unusable) and result.reason == "missing_file"


def hint(root: str, missing: Sequence[str], of: int) -> None:
    """Warn where files that are missing are there with another ending."""
    looked_at = missing[:LOOKED_AT]
    there: Counter[tuple[str, str]] = Counter()
    for path in looked_at:
        suffix = PurePosixPath(path).suffix
        if "\0" in path or ".." in PurePosixPath(path).parts or path.startswith("/"):
            continue
        for other in sorted(PICTURE_SUFFIXES - {suffix.lower()}):
            if os.path.isfile(os.path.join(root, path.removesuffix(suffix) + other)):  # noqa: PTH113, PTH118
                there[suffix, other] += 1
    for (suffix, other), count in there.most_common(1):
        ending = f"in place of {suffix}" if suffix else "at their end"
        warnings.warn(
            f"{len(missing)} of {of} paths name no file in {root}: {count} of {len(looked_at)} looked at "
            f"exist with the suffix {other} {ending}; write the paths as the files are called",
            OtherSuffixWarning,
            stacklevel=3,
        )
