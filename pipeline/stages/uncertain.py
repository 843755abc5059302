"""What the stages evaluate and report share: the calibrated methods, measured on test faces."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.metrics.groups import named
from pipeline.params import Params
from pipeline.regression.uncertainty_conformal import Groups, bands_of
from pipeline.regression.uncertainty_judged import read_judged
from pipeline.reports.settings import Settings
from pipeline.reports.uncertainty import Uncertainty, measure
from pipeline.stages import files
from pipeline.tables import SUBJECT, open_table, producer_of, read_table

NOT_GROUPS = ("face_id", "target", "split", SUBJECT)


def measured_uncertainty(params: Params, settings: Settings) -> Uncertainty | None:
    """All numbers on stated uncertainty; None where the stage calibrate has not run."""
    if not (files.CALIBRATED / "calibration.safetensors").is_file():
        return None
    wanted = params.calibrate
    # as they were calibrated: a group that is unknown there would silently share the calibration of all
    made = producer_of(files.CALIBRATED / "calibration.parquet")["settings"]
    schema = open_table(files.FACES).schema_arrow
    faces = read_table(files.FACES, [field.name for field in schema if not pa.types.is_nested(field.type)])
    judged = read_judged(
        files.CALIBRATED, faces, Groups(made["groups"], tuple(made["bands"])), settings.threshold
    )
    test = faces.filter(pc.equal(faces["split"], "test"))
    return measure(
        judged,
        groups_of(test, settings.target, wanted.bands),
        settings,
        rate=wanted.false_positive_rate,
        min_faces=wanted.min_faces,
    )


def groups_of(faces: pa.Table, target: str, bands: list[float]) -> dict[str, NDArray[np.str_]]:
    """Each grouping's labels: bands of the target, and every group column."""
    found = {target: bands_of(faces["target"].to_numpy(), bands)}
    for name in faces.column_names:
        if name not in NOT_GROUPS:
            found[name] = named(faces[name].to_pylist())
    return found
