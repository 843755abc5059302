"""Pictures in memory, each once: no picture that judges a network may teach it as well.

As in the manifest, equal pictures are kept once and contradictory ones not at all. A published division
decides who keeps a picture that several parts hold: test before validation before training. Published test
pictures all stay, so that results remain comparable with those of others.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from pipeline.core.rejects import Rejects
from pipeline.datasets.manifest import NAMED_IN_A_CONFLICT, STAGE
from pipeline.datasets.split_faces import SPLITS


def kept_once(
    pictures: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    splits: npt.NDArray[np.str_] | None,
    called: Callable[[int], str],
    rejects: Rejects,
) -> npt.NDArray[np.bool_]:
    """Which pictures stay when each may be there once.

    Parameters
    ----------
    pictures
        (N, ...); they are equal if all their pixels are.
    labels
        Class numbers, (N,).
    splits
        `train`, `validation` or `test` for each picture; None where nothing is published.
    called
        The name of the picture in a row, for messages.
    rejects
        Receives every picture that does not stay: `duplicate` where an equal one does, `conflicting_targets`
        where equal ones of training, or of validation, have different classes. `face_id` is the sha256 of the
        pixels.

    Returns
    -------
    ndarray
        (N,) bool.

    Examples
    --------
    >>> pictures, rejects = np.array([1, 2, 2, 3], np.uint8), Rejects()
    >>> splits = np.array(["train", "train", "test", "test"])
    >>> kept_once(pictures, np.array([0, 1, 1, 0]), splits, "picture {}".format, rejects).tolist()
    [True, False, True, True]
    >>> rejects.rows[0]["detail"]
    'picture 1 is the same as picture 2, which is kept'
    """
    same: dict[str, list[int]] = {}
    for row, picture in enumerate(pictures):
        same.setdefault(sha256(picture.tobytes()).hexdigest(), []).append(row)
    keep = np.ones(len(labels), bool)
    for key, rows in same.items():
        if len(rows) == 1:
            continue
        holders, kept = settled(rows, labels, splits)
        for row in rows:
            if row in kept:
                continue
            keep[row] = False
            if kept:
                reason, detail = "duplicate", f"{called(row)} is the same as {called(kept[0])}, which is kept"
            else:
                said = ", ".join(called(holder) for holder in holders[:NAMED_IN_A_CONFLICT])
                reason = "conflicting_targets"
                detail = f"{called(row)}: the same picture has different classes: {said}"
            rejects.add(stage=STAGE, reason=reason, detail=detail, face_id=key)
    return keep


def settled(
    rows: Sequence[int], labels: npt.NDArray[np.int64], splits: npt.NDArray[np.str_] | None
) -> tuple[list[int], list[int]]:
    """Of several equal pictures those in the part that decides, and those of them that stay."""
    parts = [SPLITS[0] if splits is None else str(splits[row]) for row in rows]
    decides = max(parts, key=SPLITS.index)
    holders = [row for row, part in zip(rows, parts, strict=True) if part == decides]
    if decides == SPLITS[-1]:
        return holders, holders
    agree = len(set(labels[holders].tolist())) == 1
    return holders, holders[:1] if agree else []
