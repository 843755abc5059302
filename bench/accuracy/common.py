"""What these programs share: faces of a project in which `dvc repro embed` has run, and rows of a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.distributions import ensemble, estimate
from pipeline.regression.fit import fit_stack
from pipeline.regression.recipe import Recipe
from pipeline.regression.runs import predict
from pipeline.seeds import derive_seed
from pipeline.tables import read_table

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


@dataclass(frozen=True)
class Trained:
    """Test errors (members,) and the error of the mean prediction, in the target's unit."""

    errors: FloatArray
    ensemble: float

    def __str__(self) -> str:
        mean, low, high = estimate(self.errors, statistic=np.mean)
        return f"{mean:.3f} [{low:.3f}, {high:.3f}] | {self.errors.min():.3f} | {self.ensemble:.3f}"


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
        np.abs(predicted - truth).mean(axis=1).astype(np.float64),
        float(np.abs(ensemble(predicted) - truth).mean()),
    )


def print_row(cells: Sequence[object]) -> None:
    """One row of a Markdown table, at once."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)
