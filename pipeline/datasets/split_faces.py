"""What the ways of splitting share: faces in a fixed order, with subjects and bins as numbers."""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.core.bins import bin_name, bin_of
from pipeline.core.errors import UserError

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST, HELD_OUT = 0, 1, 2, -1
Integers = npt.NDArray[np.int64]


class SmallClassWarning(UserWarning):
    """Ages (or bins) with too few faces for what was asked, with their numbers."""


@dataclass(frozen=True)
class Faces:
    """What splitting needs to know, sorted by face_id.

    `subjects` numbers who the faces show; `known` says whether any subject is; `bins` numbers the targets'
    classes, named by `names`.
    """

    ids: list[str]
    subjects: Integers
    known: bool
    bins: Integers
    names: list[str]

    def members(self) -> list[Integers]:
        """The faces of each subject."""
        order = np.argsort(self.subjects, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.subjects[order])) + 1)


def describe(manifest: pa.Table, bin_width: float | None, binned: bool = True) -> Faces:
    """The faces of a manifest in face_id order, with subjects and bins as numbers."""
    if bin_width is not None and bin_width <= 0:
        raise UserError(f"bin_width is {bin_width:g}: it must be above 0")
    ids = manifest["face_id"].to_pylist()
    if len(set(ids)) != len(ids):
        raise UserError("the manifest names a face twice: run ingest again")
    order = sorted(range(len(ids)), key=ids.__getitem__)
    ids = [ids[index] for index in order]
    named = manifest["subject"].to_pylist() if "subject" in manifest.column_names else [None] * len(ids)
    # A face of an unknown subject is its own; the tuple keeps it apart from a subject of the same name.
    owners = [("", ids[i]) if named[k] is None else ("s", named[k]) for i, k in enumerate(order)]
    numbers = {owner: number for number, owner in enumerate(sorted(set(owners)))}
    subjects = np.array([numbers[owner] for owner in owners], dtype=np.int64)
    targets = manifest["target"].to_numpy()[order].astype(np.float64)
    if bin_width is None and binned and (targets != np.floor(targets)).any():
        odd = int(np.flatnonzero(targets != np.floor(targets))[0])
        raise UserError(
            f"the target of face {ids[odd]} is {targets[odd]:g}, not a whole number: set split.bin_width"
        )
    values, bins = np.unique(bin_of(targets, bin_width), return_inverse=True)
    names = [bin_name(value, bin_width) for value in values]
    return Faces(ids, subjects, any(name is not None for name in named), bins.astype(np.int64), names)


def list_classes(faces: Faces, bins: Integers, totals: Integers, most: int = 10) -> str:
    """Classes with their numbers of faces, the first few by name."""
    listed = ", ".join(f"{faces.names[k]} ({totals[k]})" for k in bins[:most])
    return listed + (f" and {len(bins) - most} more" if len(bins) > most else "")


def warn(message: str) -> None:
    """Warn about small classes."""
    warnings.warn(message, SmallClassWarning, stacklevel=4)
