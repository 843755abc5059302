"""IMDB-WIKI: faces of celebrities with dates, in a MATLAB file.

Source: R. Rothe, R. Timofte and L. Van Gool, "Deep expectation of real and apparent age from a single image
without facial landmarks", IJCV 2018: 460,723 pictures from IMDb and 62,328 from Wikipedia. imdb.mat and
wiki.mat hold one struct of the same name, with the rows dob (MATLAB's serial date), photo_taken (year),
full_path, gender (0 female, 1 male, NaN unknown), name, face_location, face_score (-Inf: no face found) and
second_face_score (NaN: no second face).
"""

import math
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.datasets.formats.matfile import MatFileError, read_variables
from pipeline.datasets.listing import source_file
from pipeline.datasets.manifest import Record, build_manifest, reject

FIELDS = ("dob", "photo_taken", "full_path", "gender", "name", "face_score", "second_face_score")
GENDER = {0.0: "female", 1.0: "male"}
MATLAB_EPOCH = 366  # MATLAB counts days from the year 0, Python from the year 1
OLDEST = 100
LARGEST = 2**31


def read_imdb_wiki(
    root: Path,
    *,
    rejects: Rejects,
    table: str | None = None,
    min_face_score: float | None = 1.0,
    second_face: bool = False,
    workers: int | None = None,
) -> pa.Table:
    """Read IMDB or WIKI.

    Parameters
    ----------
    root
        The folder that holds the MATLAB file and the pictures.
    rejects
        Receives what is left out: `bad_age` (a date that is none, or an age outside 0 to 100), `no_face` (a
        score below `min_face_score`), `second_face`.
    table
        The MATLAB file, relative to the root; by default imdb.mat, or else wiki.mat.
    min_face_score
        The set is noisy: faces that its own detector was less sure of are left out. Null keeps all.
    second_face
        Keep pictures with a second face, of which it is not known whose age is told.
    workers
        Threads that hash files.

    Returns
    -------
    pyarrow.Table
        The manifest with the celebrity's name as subject and the group `gender`. The age is that in the
        middle of the year in which the picture was taken, since no closer date is told.

    Raises
    ------
    UserError
        The MATLAB file is missing, damaged, or of another form.
    """
    if table is None:
        table = "imdb.mat" if (root / "imdb.mat").is_file() else "wiki.mat"
    path = source_file(root, table)
    rows = rows_of(path)
    records = []
    for number, row in enumerate(rows, 1):
        where = f"{path.name}, entry {number}"
        face = Record(text(row["full_path"]), None, where=where)
        years = age(row["dob"], row["photo_taken"])
        score, second = float(row["face_score"]), float(row["second_face_score"])
        if years is None:
            detail = f"born on day {row['dob']}, taken in {row['photo_taken']}: no age from 0 to {OLDEST}"
            reject(face, rejects, "bad_age", detail)
        elif min_face_score is not None and not score >= min_face_score:
            detail = f"the set's own detector gives its face a score of {score:g}, below {min_face_score:g}"
            reject(face, rejects, "no_face", detail)
        elif not second_face and not math.isnan(second):
            reject(face, rejects, "second_face", "the picture shows a second face")
        else:
            groups = {"gender": GENDER.get(float(row["gender"]))}
            records.append(Record(face.path, years, text(row["name"]) or None, groups, where))
    base = path.parent if root.is_file() else root
    return build_manifest(records, base, "imdb_wiki", rejects, workers)


def rows_of(path: Path) -> Iterator[Mapping[str, Any]]:
    """The entries of the MATLAB file, one mapping each."""
    name = path.stem
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path} has more than {LARGEST // 2**30} GiB: it is no table of IMDB-WIKI")
    try:
        found = read_variables(path.read_bytes(), [name], LARGEST)
    except MatFileError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if name not in found or not found[name].size or found[name].dtype.names is None:
        raise UserError(f"{path} must hold a struct called {name!r}, as imdb.mat and wiki.mat do")
    entry = found[name].flat[0]
    lacking = [field for field in FIELDS if field not in found[name].dtype.names]
    if lacking:
        raise UserError(f"{path} has no field {lacking[0]!r}: it has {', '.join(found[name].dtype.names)}")
    columns = {field: np.ravel(entry[field]) for field in FIELDS}
    sizes = {len(column) for column in columns.values()}
    if len(sizes) != 1:
        raise UserError(f"{path}: its fields have {sorted(sizes)} entries, and must have the same number")
    for field in ("dob", "photo_taken", "gender", "face_score", "second_face_score"):
        if not np.issubdtype(columns[field].dtype, np.number):
            raise UserError(f"{path}: the field {field!r} must hold numbers, not {columns[field].dtype}")
    return ({field: column[k] for field, column in columns.items()} for k in range(sizes.pop()))


def age(birth: Any, taken: Any) -> int | None:
    """The age in whole years in the middle of a year; None where it is none from 0 to 100.

    Examples
    --------
    >>> age(date(1970, 8, 1).toordinal() + 366, 2000), age(date(1970, 2, 1).toordinal() + 366, 2000)
    (29, 30)
    """
    day, year = float(birth) - MATLAB_EPOCH, float(taken)
    if not (math.isfinite(day) and math.isfinite(year) and 1 <= day <= date.max.toordinal()):
        return None
    born = date.fromordinal(int(day))
    years = int(year) - born.year - (born.month > 6)
    return years if 0 <= years <= OLDEST else None


def text(cell: Any) -> str:
    """The text in a cell; empty where it holds none."""
    values = np.ravel(cell)
    return str(values[0]) if values.size == 1 and values.dtype.kind == "U" else ""
