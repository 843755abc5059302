"""SCUT-FBP: attractiveness scores of 500 Asian women, in an Excel workbook.

Source: D. Xie et al., "SCUT-FBP: a benchmark dataset for facial beauty perception", SMC 2015.
Data_Collection/SCUT-FBP-1.jpg to -500.jpg, and Rating_Collection/Attractiveness label.xlsx: number of the
picture, mean score from 1 to 5, standard deviation.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.datasets.formats.csv_tables import csv_columns, csv_rows
from pipeline.datasets.formats.xlsx import rows
from pipeline.datasets.listing import source_file
from pipeline.datasets.manifest import Record, build_manifest, reject

LABELS = "Rating_Collection/Attractiveness label.xlsx"


def read_scut_fbp(
    root: Path,
    *,
    rejects: Rejects,
    table: str = LABELS,
    folder: str = "Data_Collection",
    workers: int | None = None,
) -> pa.Table:
    """Read SCUT-FBP.

    Parameters
    ----------
    root
        The folder that holds Data_Collection/ and Rating_Collection/.
    rejects
        Receives what is left out; a row whose first cell is not the number of a picture is a `bad_row`.
    table
        The workbook, relative to the root, or the same two columns as CSV with a header.
    folder
        The folder of the pictures, relative to the root.
    workers
        Threads that hash files.

    Returns
    -------
    pyarrow.Table
        The manifest with the groups `gender` (female) and `ethnicity` (Asian), without subjects.
    """
    path = source_file(root, table)
    read = csv_pairs(path, rejects) if path.suffix.lower() == ".csv" else sheet_pairs(path)
    records = []
    for where, picture, score in read:
        number = picture_number(picture)
        if number is None:
            detail = f"{picture!r} is not the number of a picture"
            reject(Record(None, None, where=where), rejects, "bad_row", detail)
            continue
        groups = {"gender": "female", "ethnicity": "Asian"}
        records.append(Record(f"{folder}/SCUT-FBP-{number}.jpg", score, groups=groups, where=where))
    if not records:
        raise UserError(f"{path} lists no face")
    return build_manifest(records, root, "scut_fbp", rejects, workers)


def sheet_pairs(path: Path) -> Iterator[tuple[str, object, object]]:
    """The place, picture and score of each row of the workbook after its header."""
    for number, cells in rows(path):
        if number > 1:
            yield f"{path.name}, row {number}", cells.get("A"), cells.get("B")


def csv_pairs(path: Path, rejects: Rejects) -> Iterator[tuple[str, object, object]]:
    """The place, picture and score of each row of a CSV table."""
    columns = csv_columns(path)
    if len(columns) < 2:
        raise UserError(f"{path} must have two columns: the number of a picture, and its score")
    for where, row in csv_rows(path, columns, rejects):
        yield where, row[columns[0]], row[columns[1]]


def picture_number(value: object) -> int | None:
    """A whole number above 0, be it a number or text; None for anything else."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal():
        value = float(value)
    if isinstance(value, float) and value.is_integer() and value > 0:
        return int(value)
    return None
