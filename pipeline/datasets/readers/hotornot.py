"""HotOrNot: attractiveness scores of faces from the internet, with five divisions into training and test.

Source: D. Gray, K. Yu, W. Xu and Y. Gong, "Predicting facial beauty without landmarks", ECCV 2010: 2,056
pictures. The tables eccv2010_split1.csv to eccv2010_split5.csv have no header and the columns name, score and
train or test; names end in .bmp there and in .jpg on the disk, and begin with gender, age and profile:
`female_18_RRRUHEA_face_0.jpg`.
"""

import csv
import re
from pathlib import Path, PurePosixPath

import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.files import shorten
from pipeline.core.rejects import Rejects
from pipeline.datasets.formats.limited import parsing
from pipeline.datasets.manifest import Record, build_manifest, reject

DIVISIONS = range(1, 6)
NAME = re.compile(r"(?P<gender>female|male)_\d+_(?P<subject>.+)_face_\d+", re.ASCII | re.DOTALL)


def read_hotornot(
    root: Path, *, rejects: Rejects, folder: str = "hotornot_face", workers: int | None = None
) -> pa.Table:
    """Read HotOrNot.

    Parameters
    ----------
    root
        The folder that holds the tables and the folder of the pictures.
    rejects
        Receives what is left out; a row without three fields, train or test, is a `bad_row`,
        and the second of a table about the same picture a `duplicate_row`.
    folder
        The folder of the pictures, relative to the root.
    workers
        Threads that hash files.

    Returns
    -------
    pyarrow.Table
        The manifest with the profile as subject, the group `gender`, and the columns `division1` to
        `division5` (train, test) for `split.folder`.
    """
    scores: dict[str, tuple[str, str]] = {}
    divisions: dict[str, dict[str, object]] = {}
    for number in DIVISIONS:
        path = root / f"eccv2010_split{number}.csv"
        if not path.is_file():
            continue
        for where, name, score, part in rows(path, rejects):
            known, _ = scores.setdefault(name, (score, where))
            if known != score:
                problem = f"the score of {shorten(name)} is {score!r}, and {known!r} in {scores[name][1]}"
                reject(Record(None, None, where=where), rejects, "bad_row", problem)
                continue
            parts = divisions.setdefault(name, {f"division{k}": None for k in DIVISIONS})
            if parts[f"division{number}"] is not None:
                problem = f"{shorten(name)} occurs before in this table; the first is kept"
                reject(Record(None, None, where=where), rejects, "duplicate_row", problem)
                continue
            parts[f"division{number}"] = part
    if not scores:
        raise UserError(f"{root} holds no eccv2010_split1.csv with faces: set data.root to its folder")
    records = []
    for name, (score, where) in scores.items():
        stem = PurePosixPath(name).stem
        match = NAME.fullmatch(stem)
        groups = {"gender": match["gender"] if match else None, **divisions[name]}
        subject = match["subject"] if match else None
        records.append(Record(f"{folder}/{stem}.jpg", score, subject, groups, where))
    return build_manifest(records, root, "hotornot", rejects, workers)


def rows(path: Path, rejects: Rejects) -> list[tuple[str, str, str, str]]:
    """The place, name, score and part of each good row of one table."""
    found = []
    parsing(path)
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            for fields in reader:
                where = f"{path.name}, line {reader.line_num}"
                if not fields:
                    continue
                if len(fields) != 3 or fields[2].strip() not in ("train", "test"):
                    problem = f"{shorten(','.join(fields))} is not a name, a score, and train or test"
                    reject(Record(None, None, where=where), rejects, "bad_row", problem)
                else:
                    found.append((where, fields[0].strip(), fields[1].strip(), fields[2].strip()))
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num}: {error}") from None
    return found
