"""AgeDB: subject, age and gender in the file's name, `0_MariaCallas_35_f.jpg`.

Source: S. Moschoglou et al., "AgeDB: the first manually collected, in-the-wild age database", CVPR Workshops
2017: 16,488 pictures of 568 subjects aged 1 to 101.
"""

import re
from pathlib import Path, PurePosixPath

import pyarrow as pa

from pipeline.core.rejects import Rejects
from pipeline.datasets.manifest import Record, build_manifest
from pipeline.datasets.named_targets import named_records

NAME = re.compile(
    r"\d+_(?P<subject>.+)_(?P<age>\d{1,3})_(?P<gender>[mf])", re.ASCII | re.IGNORECASE | re.DOTALL
)
GENDER = {"m": "male", "f": "female"}


def read_agedb(root: Path, *, rejects: Rejects, workers: int | None = None) -> pa.Table:
    """Read AgeDB.

    Returns
    -------
    pyarrow.Table
        The manifest with subjects and the group `gender`. A name of another form is rejected (`bad_name`).
    """
    records = named_records(root, rejects, parse, "0_MariaCallas_35_f.jpg")
    return build_manifest(records, root, "agedb", rejects, workers)


def parse(path: PurePosixPath) -> Record | None:
    """The record that a path tells.

    Examples
    --------
    >>> record = parse(PurePosixPath("0_MariaCallas_35_f.jpg"))
    >>> record.target, record.subject, record.groups
    (35, 'MariaCallas', {'gender': 'female'})
    """
    match = NAME.fullmatch(path.stem)
    if match is None:
        return None
    groups = {"gender": GENDER[match["gender"].lower()]}
    return Record(str(path), int(match["age"]), match["subject"], groups)
