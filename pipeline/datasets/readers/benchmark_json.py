"""The list of records of the Facial Age Estimation Benchmark.

Source: J. Paplham and V. Franc, "A call to reflect on evaluation practices for age estimation:
comparative analysis of the state-of-the-art and a unified benchmark", CVPR 2024. Each record has
`img_path`, `age` and, depending on the data set, `id_num`, `gender`, `database`, `folder` (for its
published splits) and `aligned_bbox`. Faces are found again by the pipeline's own detectors, so that
`aligned_bbox` is not used.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.files import shorten
from pipeline.core.rejects import Rejects
from pipeline.datasets.formats.json_stream import items
from pipeline.datasets.listing import source_file
from pipeline.datasets.manifest import Record, build_manifest, check_groups, reject

GENDER = {"M": "male", "F": "female"}


def read_benchmark_json(
    root: Path,
    *,
    rejects: Rejects,
    table: str = "database.json",
    groups: Sequence[str] = ("gender", "folder"),
    workers: int | None = None,
) -> pa.Table:
    """Read one database of the benchmark.

    Parameters
    ----------
    root
        The folder that `img_path` is relative to.
    rejects
        Receives what is left out; a record that is not an object with an `img_path` is a `bad_row`. Of a
        picture with several labelled people no face can be told from the other: such records share their
        file and are rejected as conflicting, or as duplicates where the ages agree.
    table
        The JSON file, relative to the root.
    groups
        The fields to keep as text columns. `folder` is among them by default, because the published splits
        are made of it (`split.folder`). M and F become male and female.
    workers
        Threads that hash files.

    Returns
    -------
    pyarrow.Table
        The manifest; `id_num` is the subject.
    """
    check_groups(groups)
    path = source_file(root, table)
    base = path.parent if root.is_file() else root
    records = []
    for number, row in enumerate(items(path), 1):
        where = f"{path.name}, record {number}"
        if not isinstance(row, dict) or not isinstance(row.get("img_path"), str):
            problem = f"{shorten(row)} is not an object with a text 'img_path'"
            reject(Record(None, None, where=where), rejects, "bad_row", problem)
            continue
        values = {name: plain(row.get(name)) for name in groups}
        if "gender" in values:
            values["gender"] = GENDER.get(str(values["gender"]), values["gender"])
        records.append(Record(row["img_path"], row.get("age"), plain(row.get("id_num")), values, where))
    if not records:
        raise UserError(f"{path} holds no record with an 'img_path'")
    return build_manifest(records, base, "benchmark_json", rejects, workers)


def plain(value: object) -> str | int | float | None:
    """A field that can be a group or a subject; lists and objects cannot."""
    return value if isinstance(value, str | int | float) else None
