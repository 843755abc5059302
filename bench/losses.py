"""Losses and weightings on the same vectors and the same faces: error, unimodality, bias scores, seconds.

    python bench/losses.py [--faces embeddings/faces.parquet] [--losses mse,mape,dldl_v2] [--seeds 3]
        [--weightings none,gender,age] [--folds 5] [--rows 2000] [--out reports/losses]

The faces are a table with face_id, target, vector and group columns, as the stage embed writes it; its
column `split` is used where it has one and --folds is not given. With --folds, k-fold cross-validation:
errors are then those of every face when it was tested. Without --faces, made-up vectors, only to see that
everything runs.

Prints one row for each loss and weighting (Tables 8 to 11 of the age-bias report), with the spread over seeds
and folds; --out also writes it as losses.csv.
"""

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline import datasets, losses
from pipeline.core.rejects import Rejects
from pipeline.core.tables import read_table, rows_of, vector_type, vectors_of
from pipeline.datasets.splits import every_fold, split
from pipeline.evaluation import table
from pipeline.evaluation.group_tables import fairness
from pipeline.metrics import balancing_weights, cumulative_score, mae, unimodality_rate
from pipeline.metrics.bias import fairness_table
from pipeline.metrics.folds import over_folds
from pipeline.metrics.groups import age_bins
from pipeline.metrics.unimodality import PROMINENCE
from pipeline.training.mlp.fit import fit_stack
from pipeline.training.mlp.members import Members
from pipeline.training.mlp.recipe import Recipe

LOSSES = "mse,mape,softmax,dldl_v2,mean_variance,unimodal_concentrated,corn,combo"
MOST_GROUPS = 20


def made_up(count: int = 1500, width: int = 32) -> pa.Table:
    """Vectors whose noise depends on a group, so that there is a bias to see."""
    rng = np.random.default_rng(0)
    ages = rng.integers(18, 81, count).astype(float)
    gender = rng.choice(["female", "male"], count, p=[0.3, 0.7])
    vectors = rng.normal(size=(count, width)).astype(np.float32)
    vectors[:, 0] = (ages - 49) / 18 + rng.normal(0, np.where(gender == "female", 0.4, 0.2))
    return pa.table(
        {
            "face_id": [f"{number:064x}" for number in range(count)],
            "target": ages,
            "gender": gender,
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=vector_type(width)),
        }
    )


def groups_of(faces: pa.Table) -> dict[str, object]:
    """Text columns of few values, and the target in bins."""
    own = ("face_id", "split", "path", "subject", "dataset")
    texts = [f.name for f in faces.schema if pa.types.is_string(f.type) and f.name not in own]
    few = [name for name in texts if 2 <= len(faces[name].unique()) <= MOST_GROUPS]
    columns: dict[str, object] = {name: np.array(faces[name].to_pylist(), dtype=object) for name in few}
    columns["age"] = np.array(age_bins(faces["target"].to_numpy()), dtype=object)
    return columns


@dataclass
class Outcome:
    """What one loss with one weighting gave; predictions are (seeds, faces), NaN where not tested."""

    prediction: np.ndarray
    errors: list[list[float]] = field(default_factory=list)
    within: list[float] = field(default_factory=list)
    unimodal: list[float] = field(default_factory=list)
    seconds: float = 0.0


def train(
    faces: pa.Table, sides: np.ndarray, loss: str, weight: np.ndarray | None, options: argparse.Namespace
) -> tuple[Members, float]:
    x, y = vectors_of(faces), faces["target"].to_numpy().astype(np.float64)
    training, validation = sides == "train", sides == "validation"
    recipe = Recipe(loss=loss, hidden=(512, 256, 128), standardise=True, epochs=options.epochs, batch_size=64)
    started = time.perf_counter()
    result = fit_stack(
        x[training],
        y[training],
        x[validation],
        y[validation],
        seeds=list(range(1, options.seeds + 1)),
        learning_rates=options.lr,
        recipe=recipe,
        train_weight=None if weight is None else weight[training],
    )
    return result.members, time.perf_counter() - started


def measure(
    members: Members, faces: pa.Table, tested: np.ndarray, outcome: Outcome, prominence: float
) -> None:
    x, y = vectors_of(faces)[tested], faces["target"].to_numpy()[tested]
    predicted = members.predict(x).numpy()
    outcome.prediction[:, tested] = predicted
    outcome.errors.append(mae(predicted, y).tolist())
    outcome.within += cumulative_score(predicted, y, 5).tolist()
    loss = losses.build(members.loss, **members.loss_settings)
    if hasattr(loss, "probabilities"):
        p = loss.probabilities(members.outputs(x)).numpy()
        outcome.unimodal += [unimodality_rate(member, prominence) for member in p]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=Path)
    parser.add_argument("--losses", default=LOSSES)
    parser.add_argument("--weightings", default="none")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--rows", type=int, help="so many faces, drawn at random")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument(
        "--prominence", type=float, default=PROMINENCE, help="peaks that stand out less do not count"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    faces = made_up() if options.faces is None else read_table(options.faces)
    if options.faces is not None and "split" not in faces.column_names:
        faces = datasets.read("vectors", options.faces, rejects=Rejects())  # each face once
    if options.faces is None:
        options.epochs = min(options.epochs, 10)
    if options.rows:
        chosen = np.random.default_rng(0).permutation(faces.num_rows)[: options.rows]
        faces = faces.take(pa.array(np.sort(chosen)))
    if options.folds:
        settings = {"folds": options.folds, "validation": 0.2, "bin_width": 5.0}
        rounds = every_fold(faces, "cross_validation", seed=1, **settings)
    elif "split" in faces.column_names:
        rounds = [faces.select(["face_id", "split"])]
    else:
        rounds = [split(faces, "random", seed=1)]
    sides = [np.array(rows_of(one, faces["face_id"])["split"].to_pylist()) for one in rounds]
    groups = groups_of(faces)
    target = faces["target"].to_numpy().astype(np.float64)
    outcomes: dict[tuple[str, str], Outcome] = {}
    for weighting in options.weightings.split(","):
        for loss in options.losses.split(","):
            outcome = Outcome(np.full((options.seeds, faces.num_rows), np.nan))
            for side in sides:
                weight = None
                if weighting != "none":
                    weight = np.ones(len(side))
                    weight[side == "train"] = balancing_weights(groups[weighting][side == "train"])
                members, seconds = train(faces, side, loss, weight, options)
                outcome.seconds += seconds
                measure(members, faces, side == "test", outcome, options.prominence)
            outcomes[loss, weighting] = outcome
            print(f"{loss}, weighted by {weighting}: {outcome.seconds:.1f} s", flush=True)
    tested = np.isfinite(next(iter(outcomes.values())).prediction).all(axis=0)
    frame = fairness_table(
        {key: outcome.prediction[:, tested] for key, outcome in outcomes.items()},
        target[tested],
        {name: column[tested] for name, column in groups.items()},
    )
    show(frame, outcomes, int(tested.sum()), options)


def show(
    frame: pd.DataFrame, outcomes: dict[tuple[str, str], Outcome], tested: int, options: argparse.Namespace
) -> None:
    frame.insert(5, "fold_std", [over_folds(o.errors).fold_std for o in outcomes.values()])
    frame.insert(6, "cs5", [np.mean(o.within) for o in outcomes.values()])
    frame.insert(7, "unimodal", [np.mean(o.unimodal) if o.unimodal else np.nan for o in outcomes.values()])
    frame["seconds"] = [o.seconds for o in outcomes.values()]
    print(f"\n{tested} faces tested, {options.seeds} seeds, {max(1, options.folds)} fold(s)")
    print(f"unimodal: peaks of a prominence up to {options.prominence:.0%} are not counted\n")
    print(frame.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    if options.out:
        made = fairness(frame.drop(columns=["fold_std", "cs5", "unimodal", "seconds"]), "years")
        table.write([made], options.out)
        frame.to_csv(options.out / "losses.csv", index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
