"""Which picture files of the expression sets show what: the published folders, tables and names."""

import csv
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.core.files import Unusable, listed, printable, shorten
from pipeline.core.rejects import Rejects
from pipeline.datasets.formats.limited import parsing
from pipeline.datasets.image_sets import ImageSet, Listed
from pipeline.datasets.listing import PICTURE_SUFFIXES, contents, lines_of, pictures, walk
from pipeline.datasets.manifest import STAGE

FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
FER_SIDE = 48
FER_USAGE = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
FER_FOLDERS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "val": "validation",
    "publictest": "validation",
    "test": "test",
    "privatetest": "test",
}
RAF_DB = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
RAF_LIST = "EmoLabel/list_patition_label.txt"  # the published spelling
CK_PLUS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CK_CODES = {
    0: "neutral",
    1: "angry",
    2: "neutral",
    3: "disgust",
    4: "fear",
    5: "happy",
    6: "sad",
    7: "surprise",
}
"""The set's codes; 2 is contempt, which is counted as neutral."""
CK_LARGEST = 1 << 10
CK_EMOTION = re.compile(r"(?P<subject>S\d+)_(?P<sequence>\d+)_\d+_emotion\.txt", re.ASCII)


def reject(rejects: Rejects, reason: str, detail: str, path: str | None = None) -> None:
    """Record one omission."""
    rejects.add(stage=STAGE, reason=reason, detail=detail, path=None if path is None else printable(path))


def list_fer2013(root: Path, rejects: Rejects) -> list[Listed]:
    """The pictures of train/angry/*.png and so on; `validation` and `test` may be missing."""
    found = []
    for path in pictures(root, rejects):
        parts = PurePosixPath(path).parts
        split = FER_FOLDERS.get(parts[-3].lower()) if len(parts) > 2 else None
        name = parts[-2].lower() if len(parts) > 1 else ""
        if split is None or name not in FER2013:
            where = f"it is not in a folder such as train/{FER2013[0]}"
            reject(rejects, "bad_folder", where, path)
        else:
            found.append(Listed(path, FER2013.index(name), split))
    return found


def read_fer2013_csv(file: Path, rejects: Rejects, merge_tests: bool) -> ImageSet:
    """The published table: emotion, pixels and Usage in every row."""
    rows, labels, splits, names = [], [], [], []
    parsing(file)
    with file.open(encoding="utf-8", newline="") as text:
        reader = csv.DictReader(text)
        try:
            fields = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = fields
            for name in ("emotion", "pixels", "Usage"):
                if name not in fields:
                    raise UserError(f"{file} has no column {name!r}: it has {listed(fields) or 'none'}")
            for row in reader:
                where = f"{file.name}, line {reader.line_num}"
                checked = fer_row(row, where, rejects)
                if checked is not None:
                    rows.append(checked[0])
                    labels.append(checked[1])
                    names.append(where)
                    splits.append("test" if merge_tests and checked[2] == "validation" else checked[2])
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{file}, line {reader.line_num + 1}: {error}") from None
    if not rows:
        raise UserError(f"{file} holds no usable row: {rejects.counts() or 'it is empty'}")
    return ImageSet(np.stack(rows), np.array(labels, np.int64), FER2013, np.array(splits), tuple(names))


def fer_row(
    row: dict[str, str], where: str, rejects: Rejects
) -> tuple[npt.NDArray[np.uint8], int, str] | None:
    """One row's pixels, class and split, or None once the rejects say what is wrong."""
    emotion, usage = (row["emotion"] or "").strip(), (row["Usage"] or "").strip()
    if emotion not in map(str, range(len(FER2013))):
        reject(rejects, "bad_target", f"{where}: emotion {shorten(emotion)} is not one of 0 to 6")
        return None
    if usage not in FER_USAGE:
        reject(rejects, "bad_row", f"{where}: Usage {shorten(usage)} is none of {', '.join(FER_USAGE)}")
        return None
    fields = (row["pixels"] or "").split()
    if len(fields) != FER_SIDE**2 or not all(field.isascii() and field.isdigit() for field in fields):
        reject(rejects, "bad_row", f"{where}: {len(fields)} pixels, not {FER_SIDE**2} whole numbers")
        return None
    values = np.array([int(field[:9]) for field in fields])
    if values.max() > 255:
        reject(rejects, "bad_row", f"{where}: a pixel is {values.max()}, more than 255")
        return None
    return values.reshape(FER_SIDE, FER_SIDE).astype(np.uint8), int(emotion), FER_USAGE[usage]


def list_raf_db(root: Path, rejects: Rejects, kind: str) -> list[Listed]:
    """The pictures of the published list (`train_00001.jpg 5`), in Image/aligned or Image/original."""
    if kind not in ("aligned", "original"):
        raise UserError(f"pictures {kind!r} of RAF-DB: choose aligned or original")
    base = "basic/" if (root / "basic" / RAF_LIST).is_file() else ""
    table = root / base / RAF_LIST
    if not table.is_file():
        raise UserError(f"{table} does not exist: set the root to RAF-DB's folder 'basic', or the one above")
    found = []
    for where, line in lines_of(table):
        fields = line.split()
        split = fields[0].partition("_")[0]
        if len(fields) != 2 or split not in ("train", "test") or fields[1] not in map(str, range(1, 8)):
            reject(
                rejects,
                "bad_row",
                f"{where}: {shorten(line.strip())} is not like 'train_00001.jpg 5' with 1 to 7",
            )
            continue
        name = PurePosixPath(fields[0])
        if kind == "aligned":
            name = name.with_stem(f"{name.stem}_aligned")
        path = f"{base}Image/{kind}/{name}"
        found.append(Listed(path, int(fields[1]) - 1, split, where=where))
    return found


def list_ck_plus(root: Path, rejects: Rejects, frames: int) -> list[Listed]:
    """The last frames of every sequence with a label, and its first one as neutral."""
    if frames < 1:
        raise UserError(f"frames {frames}: take one or more from the end of each sequence")
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: set the root to the folder that holds CK+")
    base, files = os.path.realpath(root), list(walk(root, rejects))
    sequences: dict[tuple[str, str], list[str]] = {}
    for path in files:
        parts = PurePosixPath(path).parts
        if len(parts) > 2 and PurePosixPath(path).suffix.lower() in PICTURE_SUFFIXES:
            sequences.setdefault((parts[-3], parts[-2]), []).append(path)
    found = []
    for path in files:
        match = CK_EMOTION.fullmatch(PurePosixPath(path).name)
        if match is None:
            continue
        code = ck_code(base, path)
        key = (match["subject"], match["sequence"])
        pictures_of = sorted(sequences.get(key, []))
        if code is None:
            reject(rejects, "bad_target", "its text is not a number from 0 to 7", path)
        elif len(pictures_of) <= frames:
            reject(
                rejects,
                "short_sequence",
                f"{len(pictures_of)} picture(s) of {key[0]}/{key[1]}: {frames} last and a first are needed",
                path,
            )
        else:
            label, neutral = CK_PLUS.index(CK_CODES[code]), CK_PLUS.index("neutral")
            found.append(Listed(pictures_of[0], neutral, subject=key[0], where=path))
            found += [Listed(one, label, subject=key[0], where=path) for one in pictures_of[-frames:]]
    if not found:
        raise UserError(
            f"{root} holds no labelled sequence of CK+: its folders Emotion and the images' are needed"
        )
    return found


def ck_code(root: str, path: str) -> int | None:
    """The code in an emotion file, written as 3.0000000e+00."""
    try:
        value = float(contents(root, path, CK_LARGEST).decode("ascii"))
    except (Unusable, ValueError):
        return None
    return int(value) if value in CK_CODES else None


def subject_folds(listed: Iterable[Listed], folds: int) -> dict[str, int]:
    """The fold of every subject, dealt in the order of their names."""
    names: Sequence[str] = sorted({one.subject or "" for one in listed})
    if len(names) < folds:
        raise UserError(f"{folds} folds need as many subjects: there are {len(names)}")
    return {name: position % folds for position, name in enumerate(names)}
