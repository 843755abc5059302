"""Which loss, which backbone: whole networks at 96 x 96 beside the MLP on vectors of the same faces.

python -m bench.accuracy.cnn_table PROJECT [--out networks.csv] [--seeds 3] [--epochs 10] [--limit 200]
    [--minutes 60] [--show]

PROJECT is a folder in which `dvc repro embed` has run (profile utkface). Seven losses with ResNet-18 from
scratch, EfficientNet-Lite0 from ImageNet and dlib's face network, the last two frozen at first. Every result
is a row of the CSV as soon as it is there, and a network goes on where its last epoch ended: stop it at any
time, or after so many --minutes, and run the same command again. The table so far is printed then, or alone
by --show. Seeds come first, so that the table is complete, with one seed, after a third of the time.
"""

import argparse
import hashlib
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from bench.accuracy.common import print_row
from bench.accuracy.networks import MEASURED, SETTINGS, Project, Results, Row, settings_text, spread
from pipeline import losses
from pipeline.backbones.input_transforms import Look
from pipeline.core.seeds import derive_seed
from pipeline.core.tables import read_table, rows_of, vectors_of
from pipeline.losses.base import DivergedError
from pipeline.losses.labels import LabelledLoss
from pipeline.metrics.unimodality import PROMINENCE
from pipeline.training.mlp.fit import fit_stack
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.networks.pixels import Pixels, decoded
from pipeline.training.networks.plan import Plan
from pipeline.training.networks.predicting import predict
from pipeline.training.networks.recipe import HeadRecipe, Machine
from pipeline.training.networks.recipe import Recipe as NetworkRecipe
from pipeline.training.networks.runs import train_member

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
KEYS = ("network", "loss", "seed", "epochs", "faces", "people", SETTINGS)
COLUMNS = (*MEASURED, "best_epoch", "seconds", "images_per_s", "diverged")


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


def recipe_of(loss: str) -> Recipe:
    """How the MLP is trained."""
    return Recipe(loss=loss, standardise=True)


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
        recipe=recipe_of(loss),
    )
    seconds = time.perf_counter() - start
    members = result.members
    built = losses.build(members.loss, **members.loss_settings)
    shapes = None
    if isinstance(built, LabelledLoss):
        shapes = built.probabilities(members.outputs(torch.from_numpy(vectors)))[0].numpy()
    return {
        **project.measured(members.predict(vectors)[0].numpy(), shapes),
        "best_epoch": result.scores[0].best_epoch,
        "seconds": seconds,
        "images_per_s": len(train) * result.scores[0].epochs / seconds,
    }


def keys_of(given: argparse.Namespace, project: Project, vectors: np.ndarray) -> list[Row]:
    """Every result that the table needs, in the order in which they are made."""
    people = {"faces": len(project.faces.face_ids), "people": project.described()}
    held = hashlib.sha256(vectors.tobytes()).hexdigest()[:12]
    return [
        {
            "network": name,
            "loss": loss,
            "seed": seed,
            "epochs": given.epochs,
            **people,
            SETTINGS: settings_text(recipe_of(loss), held)
            if name == VECTORS
            else settings_text(plan_of(name, loss, given.epochs)),
        }
        for seed in range(given.seeds)
        for loss in given.losses
        for name in [VECTORS, *given.networks]
    ]


def fill(results: Results, wanted: list[Row], make: Callable[[Row], Row], minutes: float | None) -> None:
    """Make the results that the CSV lacks; whatever ends that early, the table is printed."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 60 * (minutes or 0))  # 0: never
    try:
        for key in wanted:
            results.get(key, lambda key=key: make(key))
    except KeyboardInterrupt:
        print("stopped: run the same command again to go on", flush=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        show(results, wanted)


def main() -> None:
    """Make every result that the CSV lacks; print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--out", type=Path, default=Path("networks.csv"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit", type=int, help="so many faces only")
    parser.add_argument("--minutes", type=float, help="stop after so many, with the table so far")
    parser.add_argument("--show", action="store_true", help="only print the table so far")
    parser.add_argument("--losses", nargs="+", default=LOSSES, metavar="LOSS")
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS], choices=NETWORKS)
    given = parser.parse_args()
    project = Project(given.project, given.limit)
    results = Results(given.out, KEYS, COLUMNS)
    ids = project.faces.face_ids
    table = read_table(given.project / "embeddings/faces.parquet", ["face_id", "vector"])
    vectors = vectors_of(rows_of(table, pa.chunked_array([ids], pa.string())))
    wanted = keys_of(given, project, vectors)

    def make(key: Row) -> Row:
        name, loss, seed = key["network"], key["loss"], key["seed"]
        if name == VECTORS:
            return mlp(project, vectors, loss, seed)
        plan = plan_of(name, loss, given.epochs)
        cache = given.project / "data/pixels"
        pixels = decoded(project.crops, ids, plan.look, margin=project.margin, cache=cache, workers=2)
        checkpoints = given.out.with_suffix("") / f"{name}-{loss}-{seed}"
        try:
            return network(project, plan, pixels, seed, checkpoints)
        except DivergedError as error:
            return {"diverged": str(error)}

    if given.show:
        show(results, wanted)
    else:
        fill(results, wanted, make, given.minutes)


def show(results: Results, wanted: list[Row]) -> None:
    """Print the table, mean ± standard deviation over the seeds that are there; a dash where none is."""
    found: dict[tuple[str, str], list[Row]] = {}
    for key in wanted:
        rows = found.setdefault((key["network"], key["loss"]), [])
        row = results.find(key)
        if row is not None:
            rows.append(row)
    one_mode = f"one mode (prominence over {PROMINENCE:.0%})"
    print_row(
        ["network", "loss", "seeds", "MAE", "CS@5", one_mode, "one mode (every peak)"]
        + ["gender bias", "ethnicity bias", "seconds", "images/s"]
    )
    print_row(["---", "---", *["---:"] * 9])
    for (name, loss), rows in sorted(found.items()):
        print_row(
            [
                name,
                loss,
                len(rows),
                spread(rows, "test_mae"),
                spread(rows, "cs5", 3),
                spread(rows, "unimodal", 3),
                spread(rows, "unimodal_strict", 3),
                spread(rows, "gender_bias"),
                spread(rows, "ethnicity_bias"),
                spread(rows, "seconds", 0),
                spread(rows, "images_per_s", 0),
            ]
        )
    there = sum(map(len, found.values()))
    print(f"\n{there} of {len(wanted)} results", flush=True)


if __name__ == "__main__":
    main()
