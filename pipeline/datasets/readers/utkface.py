"""UTKFace: age, gender and ethnicity in the file's name.

Source: Z. Zhang, Y. Song and H. Qi, "Age progression/regression by conditional adversarial autoencoder",
CVPR 2017; names as described on the data set's page, `[age]_[gender]_[race]_[date&time].jpg`.
"""

import re
import warnings
from pathlib import Path, PurePosixPath

import pyarrow as pa

from pipeline.core.files import printable, shorten
from pipeline.core.rejects import Rejects
from pipeline.datasets.listing import pictures
from pipeline.datasets.manifest import Record, build_manifest

GENDER = {"0": "male", "1": "female"}
ETHNICITY = {"0": "White", "1": "Black", "2": "Asian", "3": "Indian", "4": "Other"}
NAME = re.compile(r"(?P<age>\d{1,3})_(?P<rest>.+)", re.ASCII | re.DOTALL)
OLDEST = 130


class MalformedNameWarning(UserWarning):
    """Names that lack a gender or an ethnicity; their faces are kept with an unknown group."""


def read_utkface(root: Path, *, rejects: Rejects, workers: int | None = None) -> pa.Table:
    """Read UTKFace, in one folder or several.

    A few original names lack a field, such as `61_1_20170109142408075.jpg.chip.jpg`. Which of the two
    groups is missing cannot be told from the name, so both are null there; the face is kept for its age,
    and a `MalformedNameWarning` gives the number. A name without a usable age is rejected (`bad_name`).

    Returns
    -------
    pyarrow.Table
        The manifest with the groups `gender` (male, female) and `ethnicity` (White, Black, Asian, Indian,
        Other).
    """
    records, malformed = [], []
    for path in pictures(root, rejects):
        named = parse_name(PurePosixPath(path).name)
        if named is None:
            rejects.add(
                stage="ingest",
                reason="bad_name",
                detail=f"{shorten(PurePosixPath(path).name)} does not begin with an age from 0 to {OLDEST} "
                "and an underscore",
                path=printable(path),
            )
            continue
        age, gender, ethnicity = named
        if gender is None or ethnicity is None:
            malformed.append(path)
        records.append(Record(path, age, groups={"gender": gender, "ethnicity": ethnicity}))
    if malformed:
        warnings.warn(
            f"{root}: {len(malformed)} name(s) without a usable gender or ethnicity, kept with an unknown "
            f"group; the first is {shorten(malformed[0])}",
            MalformedNameWarning,
            stacklevel=2,
        )
    return build_manifest(records, root, "utkface", rejects, workers)


def parse_name(name: str) -> tuple[int, str | None, str | None] | None:
    """Age, gender and ethnicity from a file's name; None where there is no usable age.

    Examples
    --------
    >>> parse_name("26_1_2_20170116184024662.jpg.chip.jpg")
    (26, 'female', 'Asian')
    >>> parse_name("61_1_20170109142408075.jpg.chip.jpg")
    (61, None, None)
    >>> parse_name("face.jpg")
    """
    match = NAME.fullmatch(name)
    if match is None or int(match["age"]) > OLDEST:
        return None
    fields = match["rest"].split("_")
    if len(fields) != 3:
        return int(match["age"]), None, None
    return int(match["age"]), GENDER.get(fields[0]), ETHNICITY.get(fields[1])
