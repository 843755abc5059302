"""The tables that are kept of a run: one row for each network, epoch, or judged face."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.core.tables import vector_type
from pipeline.metrics import cumulative_score, mae, modes, pearson, rmse
from pipeline.training.networks.criterion import Criterion
from pipeline.training.networks.fit import Fitted
from pipeline.training.networks.material import SPLITS, Labelled
from pipeline.training.networks.plan import Plan
from pipeline.training.networks.predicting import Predicted

SCORES = pa.schema(
    [
        ("member", pa.int64()),
        ("seed", pa.int64()),
        ("lr", pa.float64()),
        ("epochs", pa.int64()),
        ("best_epoch", pa.int64()),
        ("val_loss", pa.float64()),
        ("mae", pa.float64()),
        ("val_mae", pa.float64()),
        ("test_mae", pa.float64()),
        ("test_rmse", pa.float64()),
        ("test_pearson", pa.float64()),
        ("test_within", pa.float64()),
        ("test_unimodal", pa.float64()),
        ("test_modes", pa.float64()),
        ("diverged", pa.string()),
    ]
)
HISTORY = pa.schema(
    [
        ("member", pa.int64()),
        ("epoch", pa.int64()),
        ("phase", pa.string()),
        ("lr", pa.float64()),
        ("train_loss", pa.float64()),
        ("val_loss", pa.float64()),
        ("val_mae", pa.float64()),
    ]
)
PREDICTIONS = pa.schema(
    [
        ("member", pa.int64()),
        ("face_id", pa.string()),
        ("split", pa.string()),
        ("column", pa.string()),
        ("target", pa.float32()),
        ("prediction", pa.float32()),
    ]
)


def empty_tables() -> dict[str, pa.Table]:
    """The tables of a run without a network."""
    schemas = {"scores": SCORES, "history": HISTORY, "predictions": PREDICTIONS}
    return {name: schema.empty_table() for name, schema in schemas.items()}


@dataclass(frozen=True)
class Judged:
    """How a network was trained, its loss, and what it says of all faces."""

    fitted: Fitted
    criterion: Criterion
    predicted: Predicted


@dataclass(frozen=True)
class Diverged:
    """A network whose loss stopped being a number: where, and what to do, in one sentence."""

    why: str


Ended = Judged | Diverged


def score_table(plan: Plan, faces: Labelled, seeds: Sequence[int], members: Sequence[Ended]) -> pa.Table:
    """One row a network; errors are means over targets, of the weights that were kept.

    A network that diverged has the sentence in `diverged`, and no numbers.
    """
    rows = []
    for member, (seed, one) in enumerate(zip(seeds, members, strict=True)):
        row = {"member": member, "seed": seed, "lr": plan.recipe.lr}
        rows.append(row | ({"diverged": one.why} if isinstance(one, Diverged) else scores(plan, faces, one)))
    return pa.Table.from_pylist(rows, schema=SCORES)


def scores(plan: Plan, faces: Labelled, one: Judged) -> dict[str, Any]:
    """The scores of one network."""
    wanted = faces.targets.double().numpy()
    errors = {}
    for column, split in (("mae", "train"), ("val_mae", "validation"), ("test_mae", "test")):
        at = faces.rows(split)
        pairs = zip(one.predicted.values[at].T, wanted[at].T, strict=True)
        errors[column] = float(np.mean([mae(*pair) for pair in pairs]))
    test = faces.rows("test")
    judged = list(zip(one.predicted.values[test].T, wanted[test].T, strict=True))
    shapes = None if one.predicted.distributions is None else modes(one.predicted.distributions[test])
    return {
        "epochs": len(one.fitted.history),
        "best_epoch": one.fitted.best_epoch,
        "val_loss": one.fitted.history[one.fitted.best_epoch - 1]["val_loss"],
        **errors,
        "test_rmse": float(np.mean([rmse(*pair) for pair in judged])),
        "test_pearson": finite(np.mean([pearson(*pair) for pair in judged])),
        "test_within": float(np.mean([cumulative_score(*pair, plan.within) for pair in judged])),
        "test_unimodal": None if shapes is None else float((shapes == 1).mean()),
        "test_modes": None if shapes is None else float(shapes.mean()),
    }


def finite(value: Any) -> float | None:
    """A number, or None where there is none."""
    return float(value) if np.isfinite(value) else None


def history_table(members: Sequence[Ended]) -> pa.Table:
    """One row for each network and epoch; nothing of those that diverged."""
    rows = [
        {"member": member, **row}
        for member, one in enumerate(members)
        if isinstance(one, Judged)
        for row in one.fitted.history
    ]
    return pa.Table.from_pylist(rows, schema=HISTORY)


def prediction_table(plan: Plan, faces: Labelled, members: Sequence[Ended]) -> pa.Table:
    """One row for each network that did not diverge, target, and validation or test face.

    `spread` is the standard deviation of the predicted distribution; it and `distribution` are there for
    losses over labels.
    """
    judged = np.flatnonzero(faces.split != SPLITS[0])
    parts = []
    for member, one in enumerate(members):
        if isinstance(one, Diverged):
            continue
        for k, column in enumerate(plan.goal.columns):
            arrays: dict[str, Any] = {
                "member": np.full(len(judged), member, dtype=np.int64),
                "face_id": [faces.face_ids[row] for row in judged],
                "split": faces.split[judged],
                "column": [column] * len(judged),
                "target": faces.targets[judged, k].numpy(),
                "prediction": one.predicted.values[judged, k],
            }
            if one.predicted.distributions is not None and one.criterion.labels is not None:
                shapes = one.predicted.distributions[judged, k]
                values = np.asarray(one.criterion.labels)
                means = shapes @ values
                arrays["spread"] = np.sqrt((shapes * np.square(values - means[:, None])).sum(axis=1)).astype(
                    np.float32
                )
                arrays["distribution"] = pa.FixedSizeListArray.from_arrays(
                    pa.array(shapes.ravel()), type=vector_type(shapes.shape[1])
                )
            parts.append(pa.table(arrays))
    return pa.concat_tables(parts) if parts else PREDICTIONS.empty_table()
