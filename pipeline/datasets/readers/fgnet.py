"""FG-NET: subject and age in the file's name, `001A43a.JPG`.

Source: G. Panis, A. Lanitis et al., "Overview of research on facial ageing using the FG-NET ageing
database", IET Biometrics 5(2), 2016: 1,002 pictures of 82 subjects aged 0 to 69.
"""

import re
from pathlib import Path, PurePosixPath

import pyarrow as pa

from pipeline.core.files import printable, shorten
from pipeline.core.rejects import Rejects
from pipeline.datasets.listing import pictures
from pipeline.datasets.manifest import Record, build_manifest

# A letter tells several pictures of one subject at one age apart.
NAME = re.compile(r"(?P<subject>\d{3})A(?P<age>\d{2})[a-z]?", re.ASCII | re.IGNORECASE)


def read_fgnet(root: Path, *, rejects: Rejects, workers: int | None = None) -> pa.Table:
    """Read FG-NET; the first three digits of a name are the subject.

    Returns
    -------
    pyarrow.Table
        The manifest with subjects and without groups. A name of another form is rejected (`bad_name`).
    """
    records = []
    for path in pictures(root, rejects):
        match = NAME.fullmatch(PurePosixPath(path).stem)
        if match is None:
            rejects.add(
                stage="ingest",
                reason="bad_name",
                detail=f"{shorten(PurePosixPath(path).name)} is not of the form 001A02.JPG",
                path=printable(path),
            )
        else:
            records.append(Record(path, int(match["age"]), match["subject"]))
    return build_manifest(records, root, "fgnet", rejects, workers)
