"""Calibrated methods on faces whose targets are known: what the report measures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core.errors import UserError
from pipeline.core.tables import SUBJECT
from pipeline.metrics.calibration import Judged, crps_in_blocks
from pipeline.metrics.clusters import Integers, numbered
from pipeline.uncertainty.conformal import Calibration, Groups, Texts
from pipeline.uncertainty.raw import Predicted
from pipeline.uncertainty.shapes import Shifted
from pipeline.uncertainty.stored_methods import load_calibrations, read_prediction_tables, said_of

FloatArray = NDArray[np.float64]


def judged(
    calibration: Calibration,
    said: Predicted,
    target: FloatArray,
    threshold: float | None = None,
    groups: Texts | None = None,
    subjects: Integers | None = None,
) -> Judged:
    """One calibration on N faces.

    Parameters
    ----------
    calibration, said
        And what its method says of the faces.
    target
        (N,).
    threshold
        For the probability of being under it.
    groups
        (N,), where groups were calibrated by themselves.
    subjects
        (N,) whom each face shows; None where nobody knows.
    """
    lower, upper = calibration.bounds(said, groups)

    def quantiles(rows: slice, probabilities: FloatArray) -> FloatArray:
        some = None if groups is None else groups[rows]
        return calibration.quantiles(said.take(rows), probabilities, some)

    return Judged(
        method=calibration.method,
        kind=calibration.kind,
        levels=calibration.levels,
        prediction=said.mean,
        target=target,
        lower=lower,
        upper=upper,
        crps=crps_in_blocks(quantiles, target),
        pit=calibration.cdf(said, target, groups),
        under=None if threshold is None else calibration.cdf(said, threshold, groups),
        subjects=subjects,
    )


def judged_split(
    calibrations: Sequence[Calibration],
    said: Mapping[str, Predicted],
    faces: pa.Table,
    groups: Groups,
    threshold: float | None,
) -> list[Judged]:
    """Every calibration on the same faces (face_id, target, groups, subject), which `said` is aligned to."""
    target = faces["target"].to_numpy().astype(np.float64)
    known = SUBJECT in faces.column_names
    who = numbered(faces[SUBJECT].to_pylist(), faces.num_rows) if known else None
    return [
        judged(one, said[one.method], target, threshold, groups.of(said[one.method], faces), who)
        for one in calibrations
    ]


def read_judged(
    folder: Path, faces: pa.Table, groups: Groups, threshold: float | None
) -> dict[str, list[Judged]]:
    """What the stage calibrate wrote, on the faces of `validation` and of `test`.

    Raises
    ------
    UserError
        A file is missing or damaged, or does not know one of the faces.
    """
    calibrations = load_calibrations(folder / "calibration.safetensors")
    predictions, quantiles = read_prediction_tables(folder)
    found = {}
    for split in ("validation", "test"):
        some = faces.filter(pc.equal(faces["split"], split))
        said = said_of(predictions, quantiles, some["face_id"])
        for one in calibrations:
            own, shifted = said.get(one.method), any(isinstance(s, Shifted) for s in one.shapes.values())
            if own is None or (shifted and own.quantiles is None):
                raise UserError(
                    f"{folder} holds no {'quantiles' if own else 'predictions'} of {one.method!r}, which are "
                    "calibrated there: run calibrate again (dvc repro)"
                )
        found[split] = judged_split(calibrations, said, some, groups, threshold)
    return found
