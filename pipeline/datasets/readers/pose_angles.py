"""Head pose: AFLW2000-3D and 300W-LP, whose angles lie in MATLAB files beside the pictures.

Source: X. Zhu et al., "Face alignment across large poses: a 3D solution", CVPR 2016. `Pose_Para` is pitch,
yaw, roll (radians), then translation and scale; the order and signs are those of Hopenet (N. Ruiz et al.,
CVPR Workshops 2018), with which papers compare.
"""

import math
import os
import re
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.files import Unusable
from pipeline.core.progress import track
from pipeline.core.rejects import Rejects
from pipeline.datasets.formats.matfile import MatFileError, read_variables
from pipeline.datasets.listing import contents, pictures
from pipeline.datasets.manifest import Record, build_manifest, reject

ANGLES = ("yaw", "pitch", "roll")
Angle = Literal["yaw", "pitch", "roll"]
LIMIT = 99.0
LARGEST = 8 << 20
# AFW_134212_1_0: the first view of a face; further ones are turned by the set's 3D model.
VIEW = re.compile(r"(?P<face>.+)_\d+", re.ASCII | re.DOTALL)


def read_aflw2000(
    root: Path,
    *,
    rejects: Rejects,
    target: Angle = "yaw",
    limit: float | None = LIMIT,
    workers: int | None = None,
) -> pa.Table:
    """Read AFLW2000-3D: image00002.jpg beside image00002.mat.

    Parameters
    ----------
    root
        The folder of pictures and MATLAB files.
    rejects
        Receives what is left out: a picture whose MATLAB file is missing, damaged or without a pose
        (`bad_pose`), and one with an angle beyond the limit (`angle_out_of_range`; 31 of the 2,000).
    target
        Which angle is the column `target`; all three are in the columns yaw, pitch and roll.
    limit
        The largest absolute angle in degrees; null: none.
    workers
        Threads that hash files.

    Returns
    -------
    pyarrow.Table
        The manifest with the numbers `yaw`, `pitch` and `roll` in degrees, and without groups or subjects.
    """
    records = pose_records(root, rejects, target, limit, {".mat"})
    return build_manifest(records, root, "aflw2000", rejects, workers)


def read_300w_lp(
    root: Path,
    *,
    rejects: Rejects,
    target: Angle = "yaw",
    limit: float | None = LIMIT,
    flipped: bool = True,
    workers: int | None = None,
) -> pa.Table:
    """Read 300W-LP: the folders AFW, HELEN, IBUG and LFPW, and the same mirrored in AFW_Flip and so on.

    Parameters
    ----------
    root, rejects, target, limit, workers
        As of `read_aflw2000`.
    flipped
        Take the mirrored pictures too.

    Returns
    -------
    pyarrow.Table
        The manifest with the numbers `yaw`, `pitch` and `roll`, and the group `folder` (AFW, HELEN, ...). The
        subject is the photographed face: all its views, mirrored or not, stay on one side of a split.
    """
    records = []
    for record in pose_records(root, rejects, target, limit, {".mat"}):
        path = PurePosixPath(record.path or "")
        folder = path.parent.name
        if folder.endswith("_Flip") and not flipped:
            continue
        match = VIEW.fullmatch(path.stem)
        subject = match["face"] if match else path.stem
        groups = {"folder": folder.removesuffix("_Flip")}
        records.append(Record(record.path, record.target, subject, groups, record.where, record.values))
    return build_manifest(records, root, "300w_lp", rejects, workers)


def pose_records(
    root: Path, rejects: Rejects, target: Angle, limit: float | None, beside: set[str]
) -> list[Record]:
    """A record for each picture with a pose of its own within the limit."""
    check_angle(target)
    base = os.path.realpath(root)
    records = []
    paths = pictures(root, rejects, beside)
    for path in track(paths, "reading poses", len(paths)):
        labels = str(PurePosixPath(path).with_suffix(".mat"))
        try:
            angles = mat_angles(contents(base, labels, LARGEST))
        except (Unusable, MatFileError) as error:
            reject(Record(path, None, where=labels), rejects, "bad_pose", str(error))
            continue
        record = pose_record(Record(path, None, where=labels), angles, target, limit, rejects)
        if record is not None:
            records.append(record)
    return records


def check_angle(target: str) -> None:
    """Refuse a target that is no angle."""
    if target not in ANGLES:
        raise UserError(f"target {target!r} of a head pose: choose one of {', '.join(ANGLES)}")


def pose_record(
    record: Record, angles: dict[str, float], target: str, limit: float | None, rejects: Rejects
) -> Record | None:
    """The record with its angles; None, and rejected, where one is beyond the limit or not a number."""
    wrong = [name for name, angle in angles.items() if not math.isfinite(angle)]
    beyond = [name for name, angle in angles.items() if limit is not None and not abs(angle) <= limit]
    if wrong:
        reject(record, rejects, "bad_pose", f"the {wrong[0]} is not a number")
        return None
    if beyond:
        detail = f"the {beyond[0]} of {angles[beyond[0]]:.1f} degrees is beyond {limit:g}"
        reject(record, rejects, "angle_out_of_range", detail)
        return None
    return Record(record.path, angles[target], record.subject, record.groups, record.where, angles)


def mat_angles(data: bytes) -> dict[str, float]:
    """Yaw, pitch and roll in degrees from a MATLAB file with `Pose_Para`."""
    found = read_variables(data, ["Pose_Para"], LARGEST).get("Pose_Para")
    if found is None or found.size < 3 or not np.issubdtype(found.dtype, np.floating):
        raise MatFileError("has no Pose_Para of three numbers or more")
    pitch, yaw, roll = np.degrees(np.ravel(found)[:3].astype(np.float64)).tolist()
    return {"yaw": yaw, "pitch": pitch, "roll": roll}
