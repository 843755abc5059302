"""What these programs share: faces of a project in which `dvc repro embed` has run, and rows of a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.seeds import derive_seed
from pipeline.core.tables import read_table
from pipeline.metrics.distributions import Estimate, best_members, ensemble, estimate, mean_interval
from pipeline.training.mlp.fit import fit_stack
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.mlp.runs import predict

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Faces:
    """Targets (N,) and splits (N,), in the order of embeddings/faces.parquet."""

    ids: list[str]
    targets: FloatArray
    splits: NDArray[np.str_]

    def of(self, split: str) -> NDArray[np.bool_]:
        """Which faces belong to a split."""
        return np.asarray(self.splits == split)


def read_faces(project: Path) -> Faces:
    """The faces of a project."""
    table = read_table(project / "embeddings/faces.parquet", ["face_id", "target", "split"])
    return Faces(
        table["face_id"].to_pylist(),
        table["target"].to_numpy().astype(np.float64),
        np.array(table["split"].to_pylist()),
    )


COLUMNS = (
    "test MAE, mean [95% over seeds]",
    "one model, chosen on validation",
    "ensemble",
    "mean less the first row's [95% over seeds, paired]",
    "ensemble less the first row's [95% over test faces, paired]",
)
"""The cells of `Trained.cells`, each with what its interval covers: other seeds, or other test faces."""


@dataclass(frozen=True)
class Trained:
    """What members did, in the target's unit.

    `errors` are their absolute errors (members, test faces), NaN where one diverged; `val_mae` (members,) is
    on validation faces; `ensemble_errors` (test faces,) are those of the mean prediction.
    """

    errors: FloatArray
    val_mae: FloatArray
    ensemble_errors: FloatArray

    @property
    def test_mae(self) -> FloatArray:
        """Every member's error (members,)."""
        return self.errors.mean(axis=1)  # type: ignore[no-any-return]

    @property
    def chosen(self) -> float:
        """The test error of the member that validation faces choose."""
        return float(
            self.test_mae[best_members(np.where(np.isfinite(self.test_mae), self.val_mae, np.nan))[0]]
        )

    @property
    def ensemble(self) -> float:
        """The test error of the mean prediction."""
        return float(self.ensemble_errors.mean())

    def cells(self, first: "Trained | None" = None) -> list[str]:
        """One cell for each of `COLUMNS`; `first` is the table's first row, None in that row itself."""
        cells = [interval(estimate(self.test_mae, statistic=np.mean)), f"{self.chosen:.3f}"]
        cells.append(f"{self.ensemble:.3f}")
        if first is None:
            return [*cells, "", ""]
        over_seeds = estimate(self.test_mae - first.test_mae, statistic=np.mean)
        over_faces = mean_interval(self.ensemble_errors - first.ensemble_errors)
        return [*cells, interval(over_seeds, "+.3f"), interval(over_faces, "+.3f")]


def interval(found: Estimate, form: str = ".3f") -> str:
    """A number with its interval."""
    return f"{found.point:{form}} [{found.low:{form}}, {found.high:{form}}]"


def train(
    faces: Faces,
    vectors: NDArray[np.float32],
    *,
    members: int,
    rate: float,
    recipe: Recipe,
    more: tuple[NDArray[np.float32], FloatArray] | None = None,
) -> Trained:
    """Train members on the training faces and `more`, choose on validation, measure on test.

    Parameters
    ----------
    faces, vectors
        All faces, and their vectors (N, D) in the same order.
    members, rate, recipe
        How many seeds, and how they are trained.
    more
        Vectors and targets that training has beside the training faces.
    """
    train_x, train_y = vectors[faces.of("train")], faces.targets[faces.of("train")]
    if more is not None:
        train_x, train_y = np.concatenate([train_x, more[0]]), np.concatenate([train_y, more[1]])
    validation, test = faces.of("validation"), faces.of("test")
    result = fit_stack(
        train_x,
        train_y,
        vectors[validation],
        faces.targets[validation],
        seeds=[derive_seed(20201, "member", number) for number in range(members)],
        learning_rates=rate,
        recipe=recipe,
    )
    predicted = predict(result, vectors[test], None)
    truth = faces.targets[test]
    return Trained(
        np.abs(predicted - truth).astype(np.float64),
        np.array([score.val_mae for score in result.scores]),
        np.abs(ensemble(predicted) - truth),
    )


def print_row(cells: Sequence[object]) -> None:
    """One row of a Markdown table, at once."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)
