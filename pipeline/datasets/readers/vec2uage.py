"""The JSON vector files of Vec2UAge: `{"<id>_<age>...": [512 numbers], ...}`.

Source: F. Anda, E. Dixon, E. Bou-Harb, N.-A. Le-Khac and M. Scanlon, "Vec2UAge: enhancing underage age
estimation performance through facial embeddings", 2021, section 3.3.3: a unique identifier for each image
as the key and its facial vector as the value.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipeline.core.files import shorten
from pipeline.core.progress import track
from pipeline.core.rejects import Rejects
from pipeline.datasets.embedding_sets import VectorRecord, build_vector_manifest
from pipeline.datasets.formats.json_stream import entries
from pipeline.datasets.listing import source_files
from pipeline.datasets.manifest import Record, reject

# Selfie-FV's names are <uuid>_<age>_<number>.jpg, and the age may be written 15.00.
KEY = re.compile(r"(?P<subject>[^_]+)_(?P<age>\d{1,3}(\.\d+)?)(_.*|\.[A-Za-z]\w*)?", re.ASCII | re.DOTALL)


def read_vec2uage_json(root: Path, *, rejects: Rejects, width: int = 512) -> pa.Table:
    """Read Vec2UAge's vectors.

    Parameters
    ----------
    root
        A JSON file, or a folder whose *.json files are parts of one set.
    rejects
        Receives what is left out; a key that does not begin with an identifier, an underscore and an age is
        a `bad_key`, the second entry of one file with the same key a `duplicate_key`.
    width
        How many numbers a vector must have.

    Returns
    -------
    pyarrow.Table
        The manifest with the column `vector`. The key is the path and its first part the subject: in
        Selfie-FV that is the person, and where it is the picture, keeping it on one side of a split
        costs nothing.
    """
    return build_vector_manifest(records(root, rejects), "vec2uage_json", rejects, width)


def records(root: Path, rejects: Rejects) -> Iterator[VectorRecord]:
    """The entries of all files, those with unusable keys left out."""
    for file in source_files(root, "*.json"):
        seen = set()
        for number, (key, values) in enumerate(track(entries(file), f"reading {file.name}"), 1):
            where = f"{file.name}, entry {number}"
            match = KEY.fullmatch(key)
            if match is None:
                problem = f"the key {shorten(key)} does not begin with <id>_<age>"
                reject(Record(key, None, where=where), rejects, "bad_key", problem)
            elif key in seen:
                problem = f"the key {shorten(key)} occurs before; the first is kept"
                reject(Record(key, None, where=where), rejects, "duplicate_key", problem)
            else:
                seen.add(key)
                record = Record(key, match["age"], match["subject"], where=where)
                yield VectorRecord(record, values if isinstance(values, list) else [])
