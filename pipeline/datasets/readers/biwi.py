"""Biwi Kinect head pose: rotation matrices in text files beside the pictures.

Source: G. Fanelli et al., "Real time head pose estimation from consumer depth cameras", DAGM 2011: 24
sequences of 20 people, 01/frame_00003_rgb.png beside 01/frame_00003_pose.txt (three lines of a rotation
matrix, then the head's centre in millimetres). Angles are those of Hopenet (N. Ruiz et al., CVPR Workshops
2018).
"""

import os
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.core.files import Unusable
from pipeline.core.rejects import Rejects
from pipeline.datasets.listing import contents, pictures
from pipeline.datasets.manifest import Record, build_manifest, number, reject
from pipeline.datasets.readers.pose_angles import LIMIT, Angle, check_angle, pose_record

LARGEST = 64 << 10
ORTHOGONAL = 0.01
BESIDE = frozenset({".txt", ".bin", ".cal", ".obj"})
PICTURE = "_rgb"


def read_biwi(
    root: Path,
    *,
    rejects: Rejects,
    target: Angle = "yaw",
    limit: float | None = LIMIT,
    workers: int | None = None,
) -> pa.Table:
    """Read Biwi.

    Parameters
    ----------
    root
        The folder of the sequences (hpdb, or faces_0).
    rejects
        Receives what is left out: a frame without a usable pose (`bad_pose`), one beyond the limit
        (`angle_out_of_range`), and pictures whose names do not end in _rgb (`bad_name`).
    target, limit, workers
        As of `pipeline.datasets.readers.pose_angles.read_aflw2000`.

    Returns
    -------
    pyarrow.Table
        The manifest with the numbers `yaw`, `pitch` and `roll` in degrees. The sequence is the subject; four
        of the 20 people have two, which the set does not tell.
    """
    check_angle(target)
    base = os.path.realpath(root)
    records = []
    for path in pictures(root, rejects, BESIDE):
        picture = PurePosixPath(path)
        if not picture.stem.endswith(PICTURE):
            detail = "its name is not of the form 01/frame_00003_rgb.png"
            reject(Record(path, None), rejects, "bad_name", detail)
            continue
        labels = str(picture.with_name(f"{picture.stem.removesuffix(PICTURE)}_pose.txt"))
        record = Record(path, None, picture.parent.name or None, where=labels)
        try:
            angles = rotation_angles(rotation(contents(base, labels, LARGEST)))
        except (Unusable, ValueError) as error:
            reject(record, rejects, "bad_pose", str(error))
            continue
        taken = pose_record(record, angles, target, limit, rejects)
        if taken is not None:
            records.append(taken)
    return build_manifest(records, root, "biwi", rejects, workers)


def rotation(data: bytes) -> NDArray[np.float64]:
    """The rotation matrix (3, 3) in a pose file, or a `ValueError` that says what is wrong with it."""
    words = data.decode("ascii", "replace").split()
    values = [number(word) for word in words]
    if len(values) != 12 or None in values:
        raise ValueError("the pose is not a matrix of nine numbers and a centre of three")
    matrix = np.array(values[:9], dtype=np.float64).reshape(3, 3)
    if not np.allclose(matrix @ matrix.T, np.eye(3), atol=ORTHOGONAL) or np.linalg.det(matrix) < 0:
        raise ValueError("the pose's matrix is no rotation")
    return matrix


def rotation_angles(matrix: NDArray[np.float64]) -> dict[str, float]:
    """Yaw, pitch and roll in degrees.

    Examples
    --------
    >>> {name: round(angle) for name, angle in rotation_angles(np.eye(3)).items()}
    {'yaw': 0, 'pitch': 0, 'roll': 0}
    """
    r = matrix.T
    return {
        "yaw": float(-np.degrees(np.arctan2(-r[2, 0], np.hypot(r[2, 1], r[2, 2])))),
        "pitch": float(np.degrees(np.arctan2(r[2, 1], r[2, 2]))),
        "roll": float(-np.degrees(np.arctan2(r[1, 0], r[0, 0]))),
    }
