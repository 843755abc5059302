"""Selfie-FV: FaceNet vectors of selfies with exact ages, in pickled DataFrames.

Source: E. Dixon, Selfie-FV, 2020; described in "Vec2UAge", section 3.3.2. The frames have the columns age,
imageno, uuids (who it is), filename, testset and embedding; all subjects are female.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.files import listed
from pipeline.core.rejects import Rejects
from pipeline.datasets.embedding_sets import VectorRecord, build_vector_manifest
from pipeline.datasets.formats.pickled_frames import read_frame
from pipeline.datasets.listing import source_files
from pipeline.datasets.manifest import Record


def read_selfie_fv(
    root: Path,
    *,
    rejects: Rejects,
    target_column: str = "age",
    vector_column: str = "embedding",
    subject_column: str | None = "uuids",
    path_column: str | None = "filename",
    width: int = 512,
) -> pa.Table:
    """Read Selfie-FV's pickles as data; nothing in them is executed.

    Parameters
    ----------
    root
        A pickle, or a folder whose *.pkl files are parts of one set. The set's own division into training
        and test is not used: the subjects allow any split.
    rejects
        Receives the rows left out.
    target_column, vector_column, subject_column, path_column
        The frame's columns; the last two may be null.
    width
        How many numbers a vector must have.

    Returns
    -------
    pyarrow.Table
        The manifest with the column `vector`.

    Raises
    ------
    UserError
        A file holds anything but such a frame, or lacks a column.
    """
    wanted = [target_column, vector_column, *(name for name in (subject_column, path_column) if name)]
    files = source_files(root, "*.pkl")
    items = (item for file in files for item in rows(file, wanted, subject_column, path_column))
    return build_vector_manifest(items, "selfie_fv", rejects, width)


def rows(file: Path, wanted: list[str], subject: str | None, path: str | None) -> Iterator[VectorRecord]:
    """The rows of one pickled frame."""
    frame = read_frame(file)
    for name in wanted:
        if name not in frame:
            raise UserError(f"{file} has no column {name!r}: it has {listed(list(frame))}")
    count = len(frame[wanted[0]])
    nothing: list[Any] = [None] * count
    subjects = frame[subject] if subject else nothing
    paths = frame[path] if path else nothing
    for index in range(count):
        name = paths[index]
        record = Record(
            name if isinstance(name, str) else None,
            frame[wanted[0]][index],
            scalar(subjects[index]),
            where=f"{file.name}, row {index + 1}",
        )
        yield VectorRecord(record, frame[wanted[1]][index])


def scalar(value: object) -> str | int | float | None:
    """A subject as the frame gives it; anything but text or a number is unknown."""
    return value if isinstance(value, str | int | float) else None
