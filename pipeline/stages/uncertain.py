"""What the stages evaluate and report share: the calibrated methods, measured on test faces."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.config import Params
from pipeline.core.tables import SUBJECT, open_table, producer_of, read_table
from pipeline.evaluation.settings import Settings
from pipeline.evaluation.stated_uncertainty import Uncertainty, measure
from pipeline.metrics.groups import named
from pipeline.stages import locations
from pipeline.uncertainty.conformal import Groups, bands_of
from pipeline.uncertainty.judged import read_judged

NOT_GROUPS = ("face_id", "target", "split", SUBJECT)


def measured_uncertainty(params: Params, settings: Settings) -> Uncertainty | None:
    """All numbers on stated uncertainty; None where the stage calibrate has not run."""
    if not (locations.CALIBRATED / "calibration.safetensors").is_file():
        return None
    wanted = params.calibrate
    # as they were calibrated: a group that is unknown there would silently share the calibration of all
    made = producer_of(locations.CALIBRATED / "calibration.parquet")["settings"]
    schema = open_table(locations.FACES).schema_arrow
    faces = read_table(
        locations.FACES, [field.name for field in schema if not pa.types.is_nested(field.type)]
    )
    judged = read_judged(
        locations.CALIBRATED, faces, Groups(made["groups"], tuple(made["bands"])), settings.threshold
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
