"""AFAD: age and gender as folders, `AFAD-Full/15/111/638660-1.jpg`.

Source: Z. Niu et al., "Ordinal regression with multiple output CNN for age estimation", CVPR 2016: more than
160,000 pictures of Asian faces aged 15 and above.
"""

import re
from pathlib import Path, PurePosixPath

import pyarrow as pa

from pipeline.core.rejects import Rejects
from pipeline.datasets.manifest import Record, build_manifest
from pipeline.datasets.named_targets import named_records

GENDER = {"111": "male", "112": "female"}
AGE = re.compile(r"\d{1,3}", re.ASCII)
NAME = re.compile(r"(?P<subject>\d+)-\d+", re.ASCII)


def read_afad(root: Path, *, rejects: Rejects, workers: int | None = None) -> pa.Table:
    """Read AFAD, AFAD-Full or AFAD-Lite, wherever below the root its folders lie.

    Returns
    -------
    pyarrow.Table
        The manifest with the group `gender` (folder 111 male, 112 female). The number before the hyphen is
        the album that a picture comes from, and stands for the subject, as in the Facial Age Estimation
        Benchmark. A path of another form is rejected (`bad_name`).
    """
    records = named_records(root, rejects, parse, "15/111/638660-1.jpg")
    return build_manifest(records, root, "afad", rejects, workers)


def parse(path: PurePosixPath) -> Record | None:
    """The record that a path tells.

    Examples
    --------
    >>> record = parse(PurePosixPath("AFAD-Full/15/111/638660-1.jpg"))
    >>> record.target, record.subject, record.groups
    (15, '638660', {'gender': 'male'})
    """
    if len(path.parts) < 3:
        return None
    age, gender = path.parts[-3:-1]
    match = NAME.fullmatch(path.stem)
    if match is None or gender not in GENDER or AGE.fullmatch(age) is None:
        return None
    return Record(str(path), int(age), match["subject"], {"gender": GENDER[gender]})
