"""Data sets whose labels are in the names of their pictures."""

from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath

from pipeline.core.files import printable, shorten
from pipeline.core.rejects import Rejects
from pipeline.datasets.listing import pictures
from pipeline.datasets.manifest import Record


def named_records(
    root: Path,
    rejects: Rejects,
    parse: Callable[[PurePosixPath], Record | None],
    form: str,
    beside: Collection[str] = (),
) -> list[Record]:
    """A record for each picture whose path `parse` understands; the others are rejected as `bad_name`.

    Parameters
    ----------
    root
        The folder of the pictures.
    parse
        From a path relative to the root to the record, or None.
    form
        What a name must look like, for messages.
    beside
        Endings of other files that belong there.
    """
    records = []
    for path in pictures(root, rejects, beside):
        record = parse(PurePosixPath(path))
        if record is None:
            detail = f"{shorten(path)} is not of the form {form}"
            rejects.add(stage="ingest", reason="bad_name", detail=detail, path=printable(path))
        else:
            records.append(record)
    return records
