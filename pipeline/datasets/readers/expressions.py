"""Facial expressions: FER-2013, RAF-DB (basic) and CK+, as pictures in memory or as the manifest's faces.

In the manifest an expression is a number (`target`) and a name (the group `expression`). The group `fold`
holds the published division, train, validation and test, for `split.method: published` with `split.folder:
fold`, or CK+'s folds by subject, f0 to f9, for `split.method: folds`.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.datasets.expression_lists import (
    CK_PLUS,
    FER2013,
    RAF_DB,
    list_ck_plus,
    list_fer2013,
    list_raf_db,
    read_fer2013_csv,
    subject_folds,
)
from pipeline.datasets.image_sets import ImageSet, Listed, decode_all
from pipeline.datasets.manifest import Record, build_manifest


def read_fer2013_images(
    root: Path, *, rejects: Rejects, table: str = "fer2013.csv", size: int = 48, merge_tests: bool = False
) -> ImageSet:
    """FER-2013: 35,887 grey faces of 48 x 48 in seven expressions.

    Source: Goodfellow et al., Challenges in representation learning, 2013.

    Parameters
    ----------
    table
        The published CSV (emotion, pixels, Usage); without it folders are read: train/angry/*.png, ...
    size
        What folders' pictures are resized to; the CSV's are 48 x 48.
    merge_tests
        Whether the public test pictures test as well, as in the thesis (7,178); else they validate.
    """
    file = root if root.is_file() else root / table
    if file.is_file():
        if size != 48:
            raise UserError(f"size {size}: the pictures of {file} have 48 pixels a side and are not resized")
        return read_fer2013_csv(file, rejects, merge_tests)
    listed = list_fer2013(root, rejects)
    if merge_tests:
        listed = [
            Listed(one.path, one.label, "test" if one.split == "validation" else one.split) for one in listed
        ]
    return decode_all(listed, root, FER2013, size, rejects, colour=False)


def read_fer2013(root: Path, *, rejects: Rejects, workers: int | None = None) -> pa.Table:
    """FER-2013's folders as faces; the CSV holds pixels, not picture files."""
    if root.is_file() or (root / "fer2013.csv").is_file():
        raise UserError(
            f"{root} holds FER-2013 as a table of pixels, not as pictures: train on it with "
            "vec2age classify, or name the folder of its pictures"
        )
    return as_faces(list_fer2013(root, rejects), root, "fer2013", FER2013, rejects, workers)


def read_raf_db_images(
    root: Path, *, rejects: Rejects, size: int = 96, colour: bool = True, pictures: str = "aligned"
) -> ImageSet:
    """RAF-DB, basic expressions: 12,271 faces to train and 3,068 to test, in seven expressions.

    Source: Li, Deng and Du, Reliable crowdsourcing and deep locality-preserving learning, CVPR 2017.

    Parameters
    ----------
    size, colour
        What pictures are resized and converted to; the aligned ones are published at 100 x 100.
    pictures
        `aligned` or `original`: which of the published folders.
    """
    return decode_all(list_raf_db(root, rejects, pictures), root, RAF_DB, size, rejects, colour)


def read_raf_db(
    root: Path, *, rejects: Rejects, pictures: str = "original", workers: int | None = None
) -> pa.Table:
    """RAF-DB's basic expressions as faces; the crop stage finds them in the original pictures."""
    return as_faces(list_raf_db(root, rejects, pictures), root, "raf_db", RAF_DB, rejects, workers)


def read_ck_plus_images(
    root: Path, *, rejects: Rejects, size: int = 48, frames: int = 2, folds: int = 10, fold: int = 0
) -> ImageSet:
    """CK+: the last frames of 327 labelled sequences, and their first frames as neutral, in grey.

    Source: Lucey et al., The extended Cohn-Kanade dataset, 2010. Contempt is counted as neutral, as in the
    thesis, which leaves seven expressions. Whole frames are resized, as there; cut the faces out first where
    that matters.

    Parameters
    ----------
    size
        What frames are resized to.
    frames
        How many are taken from the end of a sequence; 2 in the thesis, 3 in most papers.
    folds, fold
        Subjects, in the order of their names, are dealt to so many folds; this one tests, the next one
        validates.
    """
    listed = list_ck_plus(root, rejects, frames)
    if not 0 <= fold < folds or folds < 3:
        raise UserError(f"fold {fold} of {folds}: there must be 3 folds or more, counted from 0")
    by_subject = subject_folds(listed, folds)
    names = {fold: "test", (fold + 1) % folds: "validation"}
    listed = [
        Listed(one.path, one.label, names.get(by_subject[one.subject or ""], "train"), one.subject, one.where)
        for one in listed
    ]
    return decode_all(listed, root, CK_PLUS, size, rejects, colour=False)


def read_ck_plus(
    root: Path, *, rejects: Rejects, frames: int = 2, folds: int = 10, workers: int | None = None
) -> pa.Table:
    """CK+ as faces with subjects; the group `fold` (f0 to f9) divides by subject."""
    listed = list_ck_plus(root, rejects, frames)
    dealt = subject_folds(listed, folds)
    width = len(str(folds - 1))
    listed = [
        Listed(one.path, one.label, f"f{dealt[one.subject or '']:0{width}}", one.subject, one.where)
        for one in listed
    ]
    return as_faces(listed, root, "ck_plus", CK_PLUS, rejects, workers)


def as_faces(
    listed: Sequence[Listed],
    root: Path,
    dataset: str,
    classes: Sequence[str],
    rejects: Rejects,
    workers: int | None,
) -> pa.Table:
    """Listed pictures as the manifest."""
    records = [
        Record(
            str(PurePosixPath(one.path)),
            one.label,
            one.subject,
            {"expression": classes[one.label], "fold": one.split},
            one.where,
        )
        for one in listed
    ]
    return build_manifest(records, root, dataset, rejects, workers)
