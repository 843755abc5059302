"""SCUT-FBP5500: attractiveness scores of 5,500 faces, with the set's own divisions.

Source: L. Liang et al., "SCUT-FBP5500: a diverse benchmark dataset for multi-paradigm facial beauty
prediction", ICPR 2018. Images/ holds the pictures, whose names begin with ethnicity and gender (AF1.jpg:
Asian, female); train_test_files/ holds All_labels.txt, one division of 60 to 40 % and five folds.
"""

import re
import warnings
from pathlib import Path, PurePosixPath

import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.files import shorten
from pipeline.core.rejects import Rejects
from pipeline.datasets.joins import matched
from pipeline.datasets.listing import lines_of, source_file
from pipeline.datasets.manifest import Record, build_manifest, reject

LABELS = "train_test_files/All_labels.txt"
SIXTY = "train_test_files/split_of_60%training and 40%testing"
FOLDS = "train_test_files/5_folders_cross_validations_files"
NAME = re.compile(r"(?P<ethnicity>[AC])(?P<gender>[FM])\d+", re.ASCII)
ETHNICITY = {"A": "Asian", "C": "Caucasian"}
GENDER = {"F": "female", "M": "male"}


class MissingDivisionWarning(UserWarning):
    """A file of one of the set's own divisions that is not there; its column is null in part."""


def read_scut_fbp5500(
    root: Path, *, rejects: Rejects, table: str = LABELS, workers: int | None = None
) -> pa.Table:
    """Read SCUT-FBP5500.

    Parameters
    ----------
    root
        The folder that holds Images/ and train_test_files/.
    rejects
        Receives what is left out; a line that is not a name and a score is a `bad_row`.
    table
        The file of all labels, relative to the root.
    workers
        Threads that hash files.

    Returns
    -------
    pyarrow.Table
        The manifest with the groups `gender` and `ethnicity` (Asian, Caucasian), and two columns for
        `split.folder`: `split_60_40` (train, test) and `fold` (1 to 5: the fold that tests a face).
    """
    path = source_file(root, table)
    listed = lines(path, rejects)
    images = [name for _, name, _ in listed]
    sixty = division(root, {f"{SIXTY}/{part}.txt": part for part in ("train", "test")}, rejects)
    folds = division(
        root, {f"{FOLDS}/cross_validation_{k}/test_{k}.txt": str(k) for k in range(1, 6)}, rejects
    )
    records = []
    for told, first in ((sixty, root / SIXTY), (folds, root / FOLDS)):
        if told:
            matched(first, told, images, rejects)
    for where, name, score in listed:
        match = NAME.fullmatch(PurePosixPath(name).stem)
        groups = {
            "gender": GENDER[match["gender"]] if match else None,
            "ethnicity": ETHNICITY[match["ethnicity"]] if match else None,
            "split_60_40": sixty.get(name),
            "fold": folds.get(name),
        }
        records.append(Record(f"Images/{name}", score, groups=groups, where=where))
    if not records:
        raise UserError(f"{path} lists no face")
    base = path.parent.parent if root.is_file() else root
    return build_manifest(records, base, "scut_fbp5500", rejects, workers)


def lines(path: Path, rejects: Rejects) -> list[tuple[str, str, str]]:
    """The place, name and score of each good line of a file of labels."""
    found = []
    for where, line in lines_of(path):
        fields = line.split()
        if len(fields) == 2:
            found.append((where, fields[0], fields[1]))
        else:
            problem = f"{shorten(line.strip())} is not a name and a score"
            reject(Record(None, None, where=where), rejects, "bad_row", problem)
    return found


def division(root: Path, files: dict[str, str], rejects: Rejects) -> dict[str, str]:
    """The part of a division that each picture is in; the second of two is rejected as `bad_row`."""
    parts: dict[str, str] = {}
    for name, part in files.items():
        path = root / name
        if not path.is_file():
            lacking = f"{path} does not exist: this part of the division is unknown"
            warnings.warn(lacking, MissingDivisionWarning, stacklevel=3)
            continue
        for where, picture, _ in lines(path, rejects):
            if parts.setdefault(picture, part) != part:
                problem = f"the picture {shorten(picture)} is in part {parts[picture]} too, which is kept"
                reject(Record(None, None, where=where), rejects, "bad_row", problem)
    return parts
