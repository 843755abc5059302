"""The one exception that means: the user can mend this.

Everything a user can cause (a wrong parameter, a missing file, a damaged table) is raised as
`UserError` with one sentence that names the file, row or key, the value found, and what to do.
The command line prints that sentence and exits with 2, and so it does where the machine refuses a file
(an `OSError`); any other exception is a bug and keeps its traceback.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.credentials import masked

REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room, and run the same command again"),
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), and run the same command again",
    errno.EROFS: "name a place that can be written to",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "see to its permissions, or name another place"),
    errno.ENAMETOOLONG: "give it a shorter name",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files (ulimit -n)"),
    errno.ENOMEM: "free some memory, and run the same command again",
}
WORKER_LOST = (
    "a worker process was killed, as systems do that are short of memory: run the same command again, with "
    "fewer --workers if need be"
)
REMEDY = "see to it, or name another place, and run the same command again"


class UserError(Exception):
    """A mistake in the inputs, in one sentence for the person who made them; no password is told."""

    def __init__(self, sentence: str) -> None:
        super().__init__(masked(sentence))


def sentence_of(error: OSError) -> str:
    """What the machine refused, why, and what to do.

    Examples
    --------
    >>> sentence_of(OSError(errno.ENOSPC, "No space left on device", "ages.csv"))
    'ages.csv: No space left on device; make room, and run the same command again'
    """
    # of two, as a renaming and a copying have them, the second is the one that is written
    file = error.filename if error.filename2 is None else error.filename2
    why = error.strerror or next(iter(str(error).splitlines()), "") or type(error).__name__
    where = "" if file is None or isinstance(file, int) else f"{os.fsdecode(file)}: "
    return masked(f"{where}{why}; {REMEDIES.get(error.errno or 0, REMEDY)}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Let errors of the block name what the user asked for, not a file that stands for it in the meantime."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
