"""Calibrated methods on faces whose targets are known: what the report measures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.metrics.calibration import Judged, crps_in_blocks
from pipeline.regression.uncertainty_conformal import Calibration, Groups, Texts
from pipeline.regression.uncertainty_files import load_calibrations, said_of
from pipeline.regression.uncertainty_said import Predicted
from pipeline.tables import read_table

FloatArray = NDArray[np.float64]


def judged(
    calibration: Calibration,
    said: Predicted,
    target: FloatArray,
    threshold: float | None = None,
    groups: Texts | None = None,
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
    )


def judged_split(
    calibrations: Sequence[Calibration],
    said: Mapping[str, Predicted],
    faces: pa.Table,
    groups: Groups,
    threshold: float | None,
) -> list[Judged]:
    """Every calibration on the same faces (face_id, target, group columns), which `said` is aligned to."""
    target = faces["target"].to_numpy().astype(np.float64)
    return [
        judged(one, said[one.method], target, threshold, groups.of(said[one.method], faces))
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
    predictions = read_table(folder / "predictions.parquet")
    path = folder / "quantiles.parquet"
    quantiles = read_table(path) if path.exists() else None
    found = {}
    for split in ("validation", "test"):
        some = faces.filter(pc.equal(faces["split"], split))
        said = said_of(predictions, quantiles, some["face_id"])
        found[split] = judged_split(calibrations, said, some, groups, threshold)
    return found
