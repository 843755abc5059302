"""Which loss, which backbone: whole networks at 96 x 96 beside the MLP on vectors of the same faces.

python -m bench.accuracy.cnn_table PROJECT [--out networks.csv] [--seeds 3] [--epochs 10] [--limit 200]

PROJECT is a folder in which `dvc repro embed` has run (profile utkface). Seven losses with ResNet-18 from
scratch, EfficientNet-Lite0 from ImageNet and dlib's face network, the last two frozen at first. Every result
is a row of the CSV as soon as it is there; run the same command again after an interruption. Seeds come
first, so that the table is complete, with one seed, after a third of the time.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from bench.accuracy.common import print_row
from bench.accuracy.networks import Project, Results, Row, spread
from pipeline import losses as registry
from pipeline.cnn.pixels import Pixels, decoded
from pipeline.cnn.plan import Plan
from pipeline.cnn.predicting import predict
from pipeline.cnn.recipe import HeadRecipe, Machine
from pipeline.cnn.recipe import Recipe as NetworkRecipe
from pipeline.cnn.runs import train_member
from pipeline.encoders.looks import Look
from pipeline.losses.labels import LabelledLoss
from pipeline.regression.fit import fit_stack
from pipeline.regression.recipe import Recipe
from pipeline.seeds import derive_seed
from pipeline.tables import read_table, rows_of, vectors_of

LOSSES = ("softmax", "dldl_v2", "mean_variance", "unimodal_concentrated", "mse", "mape", "combo")
SIZE = 96
NETWORKS = {
    "resnet18": ("crop", {"lr": 1e-3}),
    "efficientnet_lite0": ("crop", {"lr": 1e-3, "backbone_factor": 0.5}),
    "dlib": ("aligned", {"lr": 1e-3, "backbone_factor": 0.5}),
}
"""By backbone: what it sees of a crop, and what differs in its recipe."""
FROM_SCRATCH = "resnet18"
VECTORS = "MLP on vectors"
AUGMENT = [("flip", {}), ("colour", {}), ("affine", {})]
KEYS = ("network", "loss", "seed", "epochs", "faces")


def plan_of(network: str, loss: str, epochs: int) -> Plan:
    """One-cycle AdamW for all; pretrained networks are frozen for a fifth of their epochs."""
    framing, changes = NETWORKS[network]
    frozen = 0 if network == FROM_SCRATCH else epochs // 5
    recipe = NetworkRecipe(
        weight_decay=0.01,
        batch_size=32,
        epochs=epochs,
        frozen_epochs=frozen,
        schedule="one_cycle",
        precision="auto",
        **changes,  # type: ignore[arg-type]
    )
    head = HeadRecipe(normalise=True)
    return Plan(loss, network, Look(framing, SIZE), augment=AUGMENT, head=head, recipe=recipe)  # type: ignore[arg-type]


def network(project: Project, plan: Plan, pixels: Pixels, seed: int, checkpoints: Path) -> Row:
    """Train one network and measure it."""
    machine = Machine(loaders=2)
    derived = derive_seed(20201, "cnn_table", seed)
    one = train_member(plan, project.faces, pixels, derived, checkpoints, machine, f"seed {seed}")
    predicted = predict(one.fitted.network, one.criterion, project.faces, pixels, plan, machine)
    shapes = None if predicted.distributions is None else predicted.distributions[:, 0]
    seen = len(project.faces.rows("train")) * plan.recipe.epochs
    return {
        **project.measured(predicted.values[:, 0], shapes),
        "best_epoch": one.fitted.best_epoch,
        "seconds": one.fitted.seconds,
        "images_per_s": seen / one.fitted.seconds,
    }


def mlp(project: Project, vectors: np.ndarray, loss: str, seed: int) -> Row:
    """Train Vec2UAge's MLP on vectors, and measure it."""
    faces = project.faces
    targets = faces.targets[:, 0].double().numpy()
    train, validation = faces.rows("train"), faces.rows("validation")
    start = time.perf_counter()
    result = fit_stack(
        vectors[train],
        targets[train],
        vectors[validation],
        targets[validation],
        seeds=[derive_seed(20201, "cnn_table", seed)],
        learning_rates=1e-3,
        recipe=Recipe(loss=loss, standardise=True),
    )
    seconds = time.perf_counter() - start
    members = result.members
    built = registry.build(members.loss, **members.loss_settings)
    shapes = None
    if isinstance(built, LabelledLoss):
        shapes = built.probabilities(members.outputs(torch.from_numpy(vectors)))[0].numpy()
    return {
        **project.measured(members.predict(vectors)[0].numpy(), shapes),
        "best_epoch": result.scores[0].best_epoch,
        "seconds": seconds,
        "images_per_s": len(train) * result.scores[0].epochs / seconds,
    }


def main() -> None:
    """Make every result that the CSV lacks; print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--out", type=Path, default=Path("networks.csv"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit", type=int, help="so many faces only")
    parser.add_argument("--losses", nargs="+", default=LOSSES, metavar="LOSS")
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS], choices=NETWORKS)
    given = parser.parse_args()
    project = Project(given.project, given.limit)
    results = Results(given.out, KEYS)
    cache = given.project / "data/pixels"
    ids = project.faces.face_ids
    looks = [Look("crop", SIZE), Look("aligned", SIZE)]
    pixels = {
        look.framing: decoded(project.crops, ids, look, margin=project.margin, cache=cache, workers=2)
        for look in looks
    }
    table = read_table(given.project / "embeddings/faces.parquet", ["face_id", "vector"])
    vectors = vectors_of(rows_of(table, pa.chunked_array([ids], pa.string())))
    found: dict[tuple[str, str], list[Row]] = {}
    for seed in range(given.seeds):
        for loss in given.losses:
            for name in [VECTORS, *given.networks]:
                key = {"network": name, "loss": loss, "seed": seed, "epochs": given.epochs, "faces": len(ids)}
                if name == VECTORS:
                    row = results.get(key, lambda loss=loss, seed=seed: mlp(project, vectors, loss, seed))
                else:
                    plan = plan_of(name, loss, given.epochs)
                    folder = given.out.with_suffix("") / f"{name}-{loss}-{seed}"
                    row = results.get(
                        key,
                        lambda plan=plan, seed=seed, folder=folder: network(
                            project, plan, pixels[plan.look.framing], seed, folder
                        ),
                    )
                found.setdefault((name, loss), []).append(row)
    show(found)


def show(found: dict[tuple[str, str], list[Row]]) -> None:
    """Print the table, mean ± standard deviation over seeds."""
    print_row(
        ["network", "loss", "MAE", "CS@5", "one mode", "gender bias", "ethnicity bias", "seconds", "images/s"]
    )
    print_row(["---", "---", *["---:"] * 7])
    for (name, loss), rows in sorted(found.items()):
        print_row(
            [
                name,
                loss,
                spread(rows, "test_mae"),
                spread(rows, "cs5", 3),
                spread(rows, "unimodal", 3),
                spread(rows, "gender_bias"),
                spread(rows, "ethnicity_bias"),
                spread(rows, "seconds", 0),
                spread(rows, "images_per_s", 0),
            ]
        )


if __name__ == "__main__":
    main()
