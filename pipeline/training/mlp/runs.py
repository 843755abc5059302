"""A run: the members of one optimiser under one policy, as the tables that are kept of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.core.progress import bar
from pipeline.core.tables import vectors_of
from pipeline.metrics import mae
from pipeline.training.mlp.fit import EpochRecord, StackResult, fit_stack
from pipeline.training.mlp.material import Material, settled, targets_of
from pipeline.training.mlp.members import Members
from pipeline.training.mlp.rates import curve_table
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.mlp.workers import Workers

SCORES = pa.schema(
    [
        ("member", pa.int64()),
        ("seed", pa.int64()),
        ("lr", pa.float64()),
        ("origin", pa.string()),
        ("epochs", pa.int64()),
        ("best_epoch", pa.int64()),
        ("outcome", pa.string()),
        ("diverged", pa.bool_()),
        ("mae", pa.float64()),
        ("val_mae", pa.float64()),
        ("test_mae", pa.float64()),
    ]
)
HISTORY = pa.schema(
    [
        ("member", pa.int64()),
        ("epoch", pa.int64()),
        ("lr", pa.float64()),
        ("train_loss", pa.float64()),
        ("val_loss", pa.float64()),
        ("val_mae", pa.float64()),
    ]
)
PREDICTIONS = pa.schema([("member", pa.int64()), ("face_id", pa.string()), ("prediction", pa.float32())])


@dataclass(frozen=True)
class TrainedRun:
    """The members, and the tables kept of them by their files' names; `seconds` differ from run to run."""

    members: Members
    tables: dict[str, pa.Table]
    seconds: tuple[float, ...]

    def counts(self) -> dict[str, str | int | float]:
        """What to tell: how many members there are, how they ended, how well on validation faces."""
        scores = self.tables["scores"]
        diverged = sum(scores["diverged"].to_pylist())
        counts: dict[str, str | int | float] = {
            "models": scores.num_rows,
            "diverged": diverged,
            "epochs, mean": round(pc.mean(scores["epochs"]).as_py(), 1),
        }
        if diverged < scores.num_rows:
            counts["validation MAE, mean"] = round(pc.mean(scores["val_mae"]).as_py(), 4)
        return counts


def train_run(
    material: Material,
    faces: pa.Table,
    recipe: Recipe,
    rates: pa.Table,
    *,
    workers: int | None = None,
) -> TrainedRun:
    """Train a member for each row of `rates`, and let it predict.

    Parameters
    ----------
    material
        What they learn from.
    faces
        face_id, target, split and vector of all faces: validation and test faces are predicted, training
        faces measured.
    recipe
        How they are trained.
    rates
        Schema `RATES`.
    workers
        Threads; the numbers do not depend on them.

    Returns
    -------
    TrainedRun
        With the tables scores, history, predictions and, where a range test ran, lr_curves. Members that
        diverged have no predictions and no errors.
    """
    seeds = rates["seed"].to_pylist()
    most = len(seeds) * recipe.epochs
    with bar() as progress:
        shown = progress.add_task(f"training {recipe.optimizer}, epochs of all models", total=most)

        def show(records: Sequence[EpochRecord]) -> None:
            # a member that left has all of its epochs behind it
            left = len(seeds) - len(records)
            progress.update(shown, completed=left * recipe.epochs + sum(one.epoch for one in records))

        result = fit_stack(
            material.train_x,
            material.train_y,
            material.val_x,
            material.val_y,
            seeds=seeds,
            learning_rates=rates["lr"].to_pylist(),
            recipe=settled(recipe, material),
            train_weight=material.train_weight,
            workers=workers,
            on_epoch=show,
        )
        progress.update(shown, completed=most)
    predicted = predict(result, vectors_of(faces), workers)
    tables = {
        "scores": score_table(result, rates, predicted, faces),
        "history": history_table(result),
        "predictions": prediction_table(result, predicted, faces),
    }
    curves = curve_table(rates)
    if curves.num_rows:
        tables["lr_curves"] = curves
    return TrainedRun(result.members, tables, result.seconds)


def predict(result: StackResult, vectors: np.ndarray, workers: int | None) -> np.ndarray:
    """Predictions (members, N), NaN for members that diverged.

    One member on one core at a time: the last bits of a product depend on how many cores share it.
    """
    members = result.members

    def one(member: int, space: None) -> np.ndarray:
        if result.scores[member].diverged:
            return np.full(len(vectors), np.nan, np.float32)
        alone = replace(members, rows=members.rows[[member]], seeds=(members.seeds[member],))
        return alone.predict(vectors)[0].numpy()

    with Workers(workers, lambda: None) as pool:
        return np.stack(pool.map(one, range(len(members))))


def score_table(result: StackResult, rates: pa.Table, predicted: np.ndarray, faces: pa.Table) -> pa.Table:
    """One row a member; its errors are those of the weights that were kept."""
    splits, targets = faces["split"].to_numpy(), targets_of(faces)
    errors = {
        column: measured(predicted[:, splits == split], targets[splits == split])
        for column, split in (("mae", "train"), ("val_mae", "validation"), ("test_mae", "test"))
    }
    rows = [
        {
            **asdict(score),
            "lr": score.learning_rate,
            "origin": origin,
            "diverged": score.diverged,
            **{column: values[score.member] for column, values in errors.items()},
        }
        for score, origin in zip(result.scores, rates["origin"].to_pylist(), strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SCORES)


def measured(predicted: np.ndarray, targets: np.ndarray) -> list[float | None]:
    """Every member's mean absolute error, None where it has none.

    Raises
    ------
    UserError
        The split has no face.
    """
    if not len(targets):
        raise UserError(
            "there is no test face to judge the models by: change the split's sizes in params.yaml"
        )
    return [float(error) if np.isfinite(error) else None for error in mae(predicted, targets)]


def history_table(result: StackResult) -> pa.Table:
    """One row for each member and epoch."""
    rows = [{**asdict(record), "lr": record.learning_rate} for record in result.history]
    return pa.Table.from_pylist(rows, schema=HISTORY)


def prediction_table(result: StackResult, predicted: np.ndarray, faces: pa.Table) -> pa.Table:
    """One row for each sound member and each validation or test face."""
    judged = faces["split"].to_numpy() != "train"
    sound = [score.member for score in result.scores if not score.diverged]
    columns = {
        "member": np.repeat(np.asarray(sound, dtype=np.int64), judged.sum()),
        "face_id": np.tile(faces["face_id"].to_numpy()[judged], len(sound)),
        "prediction": predicted[np.ix_(sound, judged)].ravel(),
    }
    return pa.table(columns, schema=PREDICTIONS)
