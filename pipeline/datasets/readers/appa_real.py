"""APPA-REAL: real and apparent age, with gender, ethnicity and expression.

Source: E. Agustsson et al., "Apparent and real age estimation in still images with deep residual regressors
on APPA-REAL database", FG 2017: 7,591 pictures in the folders train, valid and test, with gt_avg_*.csv. The
attributes, allcategories_*.csv, are those of A. Clapés et al., "From apparent to real age: gender, age,
ethnic, makeup, and expression bias analysis in real age estimation", CVPR Workshops 2018.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.files import shorten
from pipeline.core.rejects import Rejects
from pipeline.datasets.formats.csv_tables import csv_columns, csv_rows, lacking
from pipeline.datasets.joins import matched
from pipeline.datasets.manifest import Record, build_manifest, reject, text

PARTS = {"train": "train", "valid": "validation", "test": "test"}
TARGETS = {"real": "real_age", "apparent": "apparent_age_avg"}
# What the tables of attributes call them, in any capitals.
ATTRIBUTES = {
    "gender": ("gender",),
    "ethnicity": ("ethnicity", "ethnic", "race"),
    "expression": ("expression", "happiness"),
    "makeup": ("makeup",),
}


class MissingAttributesWarning(UserWarning):
    """A table of attributes that is not there, or lacks one; the faces are kept with an unknown group."""


def read_appa_real(
    root: Path,
    *,
    rejects: Rejects,
    target: Literal["real", "apparent"] = "real",
    aligned: bool = False,
    workers: int | None = None,
) -> pa.Table:
    """Read APPA-REAL.

    Parameters
    ----------
    root
        The folder appa-real-release, which holds train/, valid/, test/ and the tables.
    rejects
        Receives what is left out.
    target
        The real age, or the average of what people guessed.
    aligned
        Take the set's own cropped and rotated faces, X.jpg_face.jpg, in place of X.jpg.
    workers
        Threads that hash files.

    Returns
    -------
    pyarrow.Table
        The manifest with the groups `gender`, `ethnicity`, `expression`, `makeup` and `folder` (train,
        validation, test: the set's own division, for `split.method: published` with `split.folder: folder`).
        Subjects are not known.
    """
    if target not in TARGETS:
        raise UserError(f"target {target!r} of appa_real: choose one of {', '.join(TARGETS)}")
    records = []
    for part, split in PARTS.items():
        path = root / f"gt_avg_{part}.csv"
        if not path.is_file():
            continue
        side = root / f"allcategories_{part}.csv"
        attributes, images = attributes_of(side, rejects), []
        columns = csv_columns(path)
        for name in ("file_name", TARGETS[target]):
            if name not in columns:
                raise lacking(path, name, columns)
        for where, row in csv_rows(path, columns, rejects):
            name = str(row["file_name"]).strip()
            images.append(name)
            face = f"{part}/{name}_face.jpg" if aligned else f"{part}/{name}"
            groups = {**attributes.get(name, dict.fromkeys(ATTRIBUTES)), "folder": split}
            records.append(Record(face, row[TARGETS[target]], groups=groups, where=where))
        if side.is_file():
            matched(side, attributes, images, rejects)
    if not records:
        raise UserError(f"{root} holds no gt_avg_train.csv with faces: set data.root to appa-real-release")
    return build_manifest(records, root, "appa_real", rejects, workers)


def attributes_of(path: Path, rejects: Rejects) -> dict[str, Mapping[str, object]]:
    """The groups of each picture, by its name."""
    if not path.is_file():
        absent = f"{path} does not exist: gender, ethnicity, expression and makeup are unknown"
        warnings.warn(absent, MissingAttributesWarning, stacklevel=3)
        return {}
    columns = csv_columns(path)
    lower = {name.strip().lower(): name for name in columns}
    names = {
        group: next((lower[alias] for alias in aliases if alias in lower), None)
        for group, aliases in ATTRIBUTES.items()
    }
    file = lower.get("file", lower.get("file_name"))
    if file is None:
        raise lacking(path, "file", columns)
    unknown = [group for group, name in names.items() if name is None]
    if unknown:
        absent = f"{path} tells no {', '.join(unknown)}: its columns are {', '.join(columns)}"
        warnings.warn(absent, MissingAttributesWarning, stacklevel=3)
    found: dict[str, Mapping[str, object]] = {}
    for where, row in csv_rows(path, columns, rejects):
        key = str(row[file]).strip()
        told = {group: None if name is None else row[name] for group, name in names.items()}
        if key in found:
            unlike = [group for group, value in told.items() if text(value) != text(found[key][group])]
            what = f"{', '.join(unlike)} differ and are unknown" if unlike else "the same ones"
            detail = f"the picture {shorten(key)} has attributes before: {what}"
            reject(Record(None, None, where=where), rejects, "duplicate_row", detail)
            found[key] = {**found[key], **dict.fromkeys(unlike)}
        else:
            found[key] = told
    return found
