"""MORPH Album II: subject, gender and age in the file's name, `009055_1M54.JPG`.

Source: K. Ricanek and T. Tesafaye, "MORPH: a longitudinal image database of normal adult age-progression",
FGR 2006: 55,134 pictures of 13,617 subjects aged 16 to 77, with a table (id_num, race, gender, age, photo,
...).
"""

import re
from pathlib import Path, PurePosixPath

import pyarrow as pa

from pipeline.core.files import shorten
from pipeline.core.rejects import Rejects
from pipeline.datasets.formats.csv_tables import csv_columns, csv_rows, lacking
from pipeline.datasets.joins import matched
from pipeline.datasets.listing import source_file
from pipeline.datasets.manifest import Record, build_manifest, reject
from pipeline.datasets.named_targets import named_records

NAME = re.compile(r"(?P<subject>\d+)_\d+(?P<gender>[MF])(?P<age>\d{2,3})", re.ASCII | re.IGNORECASE)
GENDER = {"M": "male", "F": "female"}
ETHNICITY = {
    "B": "Black",
    "W": "White",
    "A": "Asian",
    "H": "Hispanic",
    "I": "Indian",
    "O": "Other",
}


def read_morph2(
    root: Path,
    *,
    rejects: Rejects,
    table: str | None = None,
    subjects: bool = True,
    workers: int | None = None,
) -> pa.Table:
    """Read MORPH II.

    Parameters
    ----------
    root
        The folder of the pictures, in any subfolders.
    rejects
        Receives what is left out; a name of another form is a `bad_name`.
    table
        The set's CSV table, relative to the root, with the columns `photo` and `race`; without it the
        ethnicity is unknown.
    subjects
        Whether to tell who it is, which keeps all pictures of a subject on one side of a split. The random
        splits of most papers do not: their errors are lower because people are tested on whom the model
        has learnt. Give false to do as they do, and say so beside the numbers.
    workers
        Threads that hash files.

    Returns
    -------
    pyarrow.Table
        The manifest with the groups `gender` and `ethnicity` (Black, White, Asian, Hispanic, Indian, Other).
    """
    races = {} if table is None else races_of(source_file(root, table), rejects)

    def parse(path: PurePosixPath) -> Record | None:
        match = NAME.fullmatch(path.stem)
        if match is None:
            return None
        race = races.get(path.stem.upper())
        groups = {"gender": GENDER[match["gender"].upper()], "ethnicity": race}
        return Record(str(path), int(match["age"]), match["subject"] if subjects else None, groups)

    records = named_records(root, rejects, parse, "009055_1M54.JPG", () if table is None else (".csv",))
    if table is not None:
        stems = [PurePosixPath(record.path or "").stem.upper() for record in records]
        matched(source_file(root, table), races, stems, rejects)
    return build_manifest(records, root, "morph2", rejects, workers)


def races_of(path: Path, rejects: Rejects) -> dict[str, str | None]:
    """The ethnicity of each picture, by its name without the ending, in capitals; null for other codes."""
    columns = csv_columns(path)
    for name in ("photo", "race"):
        if name not in columns:
            raise lacking(path, name, columns)
    races: dict[str, str | None] = {}
    for where, row in csv_rows(path, columns, rejects):
        photo = PurePosixPath(str(row["photo"]).strip().replace("\\", "/")).stem.upper()
        race = ETHNICITY.get(str(row["race"]).strip().upper())
        if races.setdefault(photo, race) != race:
            detail = f"the photo {shorten(photo)} has another race before; it is taken as unknown"
            reject(Record(None, None, where=where), rejects, "conflicting_rows", detail)
            races[photo] = None
    return races
