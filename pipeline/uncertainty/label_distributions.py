"""Label distributions of whole networks, from pixels to the target, as one more method that is calibrated."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.core.tables import open_table, read_as, rows_of, vectors_of
from pipeline.uncertainty.methods import of_distributions
from pipeline.uncertainty.raw import Predicted

NETWORK = "network"
DISTRIBUTION = "distribution"


READ = pa.schema(
    [
        pa.field("member", pa.int64(), nullable=False),
        pa.field("column", pa.string(), nullable=False),
        pa.field("face_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("target", pa.float64(), nullable=False),
    ]
)


def read_networks(path: Path) -> pa.Table:
    """What whole networks predicted, as `networks_said` takes it.

    Raises
    ------
    UserError
        The file is missing or damaged, lacks a column or a value, or has one of another type.
    """
    distributed = DISTRIBUTION in open_table(path).schema_arrow.names
    predictions = read_as(path, READ, [DISTRIBUTION] if distributed else [])
    if distributed:
        vectors_of(predictions, DISTRIBUTION, path)
    return predictions


def networks_said(
    predictions: pa.Table,
    labels: Sequence[float] | None,
    faces: pa.Table,
    probabilities: Sequence[float],
    name: str,
) -> Predicted:
    """What the networks of a run say together of validation and test faces.

    Parameters
    ----------
    predictions
        As the stage finetune writes them: a row for each network, target, and face.
    labels
        (C,) what its distributions are over, ascending and evenly spaced; None where there are none.
    faces
        face_id, split and target of the N faces that are asked about.
    probabilities
        Of the quantiles.
    name
        Of the run, for messages.

    Returns
    -------
    Predicted
        (N,), in the order of `faces`.

    Raises
    ------
    UserError
        The run predicts no distribution, not this target, or was trained on other splits.
    """
    if labels is None or DISTRIBUTION not in predictions.column_names:
        raise UserError(f"{name} predicts no distribution: name a run with a loss over labels, as dldl_v2")
    numbers = isinstance(labels, list) and all(type(label) in (int, float) for label in labels)
    if not numbers or len(labels) != predictions.schema.field(DISTRIBUTION).type.list_size:
        raise UserError(f"{name} has no label for each part of a distribution: run vec2age finetune again")
    if not np.allclose(np.diff(labels, 2), 0, atol=1e-6):
        raise UserError(f"the labels of {name} are not evenly spaced: set finetune.faces.labels")
    ids = faces["face_id"]
    known = pc.is_in(ids, value_set=predictions["face_id"].combine_chunks())
    if absent := pc.sum(pc.invert(known)).as_py():
        first = ids.filter(pc.invert(known))[0].as_py()
        raise UserError(
            f"{name} says nothing of {absent} of {len(ids)} validation and test faces, first {first}: run "
            "vec2age finetune again (dvc repro)"
        )
    own = of_target(predictions, faces, name)
    each = [
        rows_of(own.filter(pc.equal(own["member"], member)), ids)[DISTRIBUTION].combine_chunks().flatten()
        for member in pc.unique(own["member"]).to_pylist()
    ]
    stacked = np.stack([flat.to_numpy().reshape(len(ids), -1) for flat in each])
    return of_distributions(stacked, labels, probabilities)


def of_target(predictions: pa.Table, faces: pa.Table, name: str) -> pa.Table:
    """The rows of the column that holds the target of these faces; their splits must be the faces' own."""
    for column in pc.unique(predictions["column"]).to_pylist():
        own = predictions.filter(pc.equal(predictions["column"], column))
        first = rows_of(own, faces["face_id"])
        if not np.allclose(first["target"].to_numpy(), faces["target"].to_numpy(), rtol=1e-5, atol=1e-5):
            continue
        if first["split"].to_pylist() != faces["split"].to_pylist():
            raise UserError(
                f"{name} was trained on another split than there is now, so that its errors would be too "
                "good: run vec2age finetune again (dvc repro)"
            )
        return own
    raise UserError(
        f"{name} does not predict the target of the faces' vectors: name another run in calibrate.network, "
        "or run vec2age finetune again (dvc repro)"
    )
