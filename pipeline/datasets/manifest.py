"""From what a reader found to the manifest: hashed, checked, each face once."""

import math
import os
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.files import Unusable, escaped, is_unicode, printable, shorten
from pipeline.core.progress import track
from pipeline.core.rejects import Rejects
from pipeline.core.tables import vector_type
from pipeline.datasets.formats.limited import parsed
from pipeline.datasets.listing import Hashed
from pipeline.datasets.path_variants import hint, is_missing, meant

STAGE = "ingest"
# of the manifest, of vectors that were augmented, of predictions
RESERVED = frozenset(
    {"face_id", "path", "target", "subject", "dataset", "vector", "split"}
    | {"parent_id", "operation", "similarity"}
    | {"member", "column", "prediction", "spread", "distribution", "target_bins"}
)
NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
NAMED_IN_A_CONFLICT = 5
MISSING = frozenset(
    {"", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "nan", "NaN", "NAN", "-nan", "-NaN", "NaT", "None"}
    | {"null", "Null", "NULL", "unknown", "Unknown", "UNKNOWN", "-", "--", "?"}
)
"""How tables write that a value is missing: as pandas reads them, and three more signs.

Exactly as written: "Na" is a name and "none" a kind of glasses. Namibia's code is taken as missing.
"""
NOBODY = MISSING | {"none", "NONE", "na"}
"""The same for who it is; "0" and "-1" are subjects."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a source says about one face, before anything is checked.

    Parameters
    ----------
    path
        Relative to the root; for vectors their name in the source, or null.
    target
        As the source has it: a number or text.
    subject
        Who it is.
    groups
        Group columns and their values.
    values
        Further numbers to predict, by name, such as the three angles of a head; finite.
    where
        The place in the source, for messages: "labels.csv, row 7".
    """

    path: str | None
    target: object
    subject: object = None
    groups: Mapping[str, object] = field(default_factory=dict)
    where: str = ""
    values: Mapping[str, float] = field(default_factory=dict)

    def labels(self, target: float) -> str:
        """The target and further numbers, for a message."""
        return ", ".join([f"{target:.15g}", *(f"{name} {value:g}" for name, value in self.values.items())])


@dataclass(frozen=True, slots=True)
class Face:
    """A record whose face_id and target are known."""

    face_id: str
    target: float
    record: Record
    vector: npt.NDArray[np.float32] | None = None

    def name(self) -> str:
        """How messages call this face."""
        return repr(printable(self.record.path)) if self.record.path else self.record.where or self.face_id


def build_manifest(
    records: Iterable[Record], root: Path, dataset: str, rejects: Rejects, workers: int | None = None
) -> pa.Table:
    """Hash the files that records name and keep each usable face once.

    Parameters
    ----------
    records
        One for each row or file of the source.
    root
        The folder that paths are relative to. Files are opened read-only and never decoded.
    dataset
        What the column `dataset` says.
    rejects
        Receives every record left out: a path that leaves the root, a file that is missing, empty,
        unreadable or not a regular file, a target that is not a finite number, the second of two equal
        files, all of several equal files whose targets differ.
    workers
        Threads; the result does not depend on their number.

    Returns
    -------
    pyarrow.Table
        face_id, path, target, subject, dataset, the group columns and any further numbers to predict, sorted
        by face_id.
    """
    checked = []
    for record in records:
        target = number(record.target)
        if target is None:
            reject_target(record, rejects)
        else:
            checked.append((record, target))
    parsed()
    base = os.path.realpath(root)
    paths = list(dict.fromkeys(record.path or "" for record, _ in checked))

    known: Hashed = {}

    def fingerprint(path: str) -> tuple[str, str | Unusable]:
        return meant(base, path, known)

    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        results = track(pool.map(fingerprint, paths), f"hashing {dataset}", len(paths))
        found = dict(zip(paths, results, strict=True))
    hint(base, [path for path, (_, result) in found.items() if is_missing(result)], len(found))
    faces = []
    for record, target in checked:
        path, result = found[record.path or ""]
        if isinstance(result, Unusable):
            reject(record, rejects, result.reason, str(result))
        else:
            as_meant = record if path == record.path else replace(record, path=path)
            faces.append(Face(result, target, as_meant))
    return to_table(settle(faces, rejects), dataset)


def number(value: object) -> float | None:
    """A target as a finite float, or None; text must be a plain decimal number.

    Examples
    --------
    >>> number(" 17.5 "), number("1_0"), number("nan"), number(True)
    (17.5, None, None, None)
    """
    if isinstance(value, str):
        result = float(value) if NUMBER.fullmatch(value) else math.nan
    elif isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        try:
            result = float(value)
        except OverflowError:
            return None
    else:
        return None
    return result if math.isfinite(result) else None


def reject(record: Record, rejects: Rejects, reason: str, detail: str, face_id: str | None = None) -> None:
    """Record one rejection with the record's path and place."""
    path = None if record.path is None else printable(record.path)
    place = f"{record.where}: " if record.where else ""
    rejects.add(stage=STAGE, reason=reason, detail=f"{escaped(place)}{detail}", face_id=face_id, path=path)


def reject_target(record: Record, rejects: Rejects) -> None:
    """Record a target that is not a number, or missing."""
    value = record.target
    missing = text(value) is None
    detail = "the target is missing" if missing else f"the target {shorten(value)} is not a finite number"
    reject(record, rejects, "missing_target" if missing else "bad_target", detail)


def settle(faces: Iterable[Face], rejects: Rejects) -> list[Face]:
    """One face for each face_id: equal ones once, contradictory ones not at all; sorted by face_id."""
    same: dict[str, list[Face]] = {}
    for face in faces:
        same.setdefault(face.face_id, []).append(face)
    kept = []
    for face_id in sorted(same):
        group = sorted(same[face_id], key=lambda face: (face.record.path or "", face.record.where))
        if len({(face.target, *face.record.values.items()) for face in group}) > 1:
            said = [f"{face.name()} says {face.record.labels(face.target)}" for face in group]
            conflict(group, rejects, "conflicting_targets", "the same face has different targets", said)
        elif any(differs(face.vector, group[0].vector) for face in group[1:]):
            said = [face.name() for face in group]
            conflict(group, rejects, "conflicting_vectors", "one face_id has different vectors", said)
        else:
            kept.append(merge(group, rejects))
    return kept


def differs(first: npt.NDArray[np.float32] | None, second: npt.NDArray[np.float32] | None) -> bool:
    """Whether two vectors of one face contradict each other."""
    return first is not None and second is not None and not np.array_equal(first, second)


def conflict(group: Sequence[Face], rejects: Rejects, reason: str, what: str, said: Sequence[str]) -> None:
    """Reject every face of a contradictory group, naming what each one says."""
    more = len(said) - NAMED_IN_A_CONFLICT
    listed = ", ".join(said[:NAMED_IN_A_CONFLICT]) + (f" and {more} more" if more > 0 else "")
    detail = f"{what}: {listed}"
    for face in group:
        reject(face.record, rejects, reason, detail, face.face_id)


def merge(group: Sequence[Face], rejects: Rejects) -> Face:
    """The first of several equal faces; a group they disagree about becomes unknown."""
    first = group[0]
    groups = dict(first.record.groups)
    same = f"the same as {first.name()}, which is kept"
    for face in group[1:]:
        unlike = sorted(
            name
            for name in {*first.record.groups, *face.record.groups}
            if text(first.record.groups.get(name)) != text(face.record.groups.get(name))
        )
        groups.update(dict.fromkeys(unlike))
        notes = [
            f"{name} differs ({shorten(first.record.groups.get(name))} there, "
            f"{shorten(face.record.groups.get(name))} here) and is taken as unknown"
            for name in unlike
        ]
        if who(face.record.subject) != who(first.record.subject):
            notes.append(f"subject differs, {shorten(first.record.subject)} is kept")
        reject(face.record, rejects, "duplicate", "; ".join([same, *notes]), face.face_id)
    return replace(first, record=replace(first.record, groups=groups))


def text(value: object, missing: Container[str] = MISSING) -> str | None:
    """A group as text; nothing, NaN and words for what is missing are None, a whole float loses its '.0'."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    written = str(value).strip()
    return None if written in missing else written if is_unicode(written) else printable(written)


def who(value: object) -> str | None:
    """A subject as text, None where unknown."""
    return text(value, NOBODY)


def check_groups(groups: Iterable[str]) -> None:
    """Refuse group columns whose names the manifest needs for itself, or cannot hold."""
    for name in groups:
        if not is_unicode(name):
            raise UserError(
                f"group column {shorten(name)} has a name that is not UTF-8: save the table as UTF-8, or "
                "list the group columns in the setting 'groups'"
            )
        if name in RESERVED:
            raise UserError(
                f"group column {name!r} has a name that tables of vec2age use themselves: rename it, "
                "or list the group columns in the setting 'groups'"
            )


def to_table(faces: Sequence[Face], dataset: str) -> pa.Table:
    """Faces, sorted by face_id, as the manifest table; further numbers, then vectors are its last columns."""
    groups = sorted({name for face in faces for name in face.record.groups})
    check_groups(groups)
    columns: dict[str, pa.Array] = {
        "face_id": pa.array([face.face_id for face in faces], pa.string()),
        "path": pa.array([normal(face.record.path) for face in faces], pa.string()),
        "target": pa.array([face.target for face in faces], pa.float64()),
        "subject": pa.array([who(face.record.subject) for face in faces], pa.string()),
        "dataset": pa.array([dataset] * len(faces), pa.string()),
    }
    for name in groups:
        columns[name] = pa.array([text(face.record.groups.get(name)) for face in faces], pa.string())
    for name in dict.fromkeys(name for face in faces for name in face.record.values):
        columns[name] = pa.array([face.record.values.get(name) for face in faces], pa.float64())
    vectors = [face.vector for face in faces if face.vector is not None]
    if vectors:
        flat = pa.array(np.concatenate(vectors))
        columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, type=vector_type(len(vectors[0])))
    return pa.table(columns)


def normal(path: str | None) -> str | None:
    """A path without './' and doubled slashes."""
    return None if path is None else str(PurePosixPath(path)) if is_unicode(path) else printable(path)


def within(table: pa.Table, lowest: float | None, highest: float | None, rejects: Rejects) -> pa.Table:
    """The faces whose target lies between two limits, both included; null is no limit."""
    low = -math.inf if lowest is None else lowest
    high = math.inf if highest is None else highest
    keep = [low <= target <= high for target in table["target"].to_pylist()]
    outside = table.filter(pa.array([not inside for inside in keep], pa.bool_()))
    for row in outside.select(["face_id", "path", "target"]).to_pylist():
        rejects.add(
            stage=STAGE,
            reason="target_out_of_range",
            detail=f"the target {row['target']:.15g} is not between {low:g} and {high:g}",
            face_id=row["face_id"],
            path=None if row["path"] is None else printable(row["path"]),
        )
    return table.filter(pa.array(keep, pa.bool_()))
