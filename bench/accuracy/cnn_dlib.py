"""dlib's face network fine-tuned at its own 150 px, and its pooled features as an encoder.

python -m bench.accuracy.cnn_dlib PROJECT [--out dlib] [--epochs 12] [--members 10] [--limit 200]

PROJECT is a folder in which `dvc repro embed` has run. DLDL-v2, one-cycle AdamW, bfloat16 where the processor
has it. Then the MLP on vectors of the same faces and split: dlib's frozen 128, the fine-tuned network's 256,
and both side by side. An interrupted run goes on where its last epoch ended; OUT holds a CSV, and a network
for each set of faces and settings.
"""

import argparse
import hashlib
import time
from pathlib import Path

import pyarrow as pa

from bench.accuracy.common import Faces, print_row, train
from bench.accuracy.networks import SETTINGS, Project, Results, Row, settings_text
from pipeline.backbones.input_transforms import Look
from pipeline.core.tables import read_folder, rows_of
from pipeline.encoders import View, build_all
from pipeline.encoders.embedding import embed, vectors_of
from pipeline.encoders.torch_encoder import TorchEncoder
from pipeline.faces import shards
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.networks.pixels import decoded
from pipeline.training.networks.plan import Plan
from pipeline.training.networks.predicting import predict
from pipeline.training.networks.recipe import HeadRecipe, Machine
from pipeline.training.networks.recipe import Recipe as NetworkRecipe
from pipeline.training.networks.runs import train_member
from pipeline.training.networks.saved import write_network

SIZE = 150
NETWORK = "fine-tuned network itself"
KEYS = ("what", "faces", "people", SETTINGS)
COLUMNS = ("mae", "chosen", "ensemble", "seconds", "note")
ENCODERS = (["dlib"], ["finetuned"], ["dlib", "finetuned"])
ON_VECTORS, RATE = Recipe(standardise=True, loss="dldl_v2"), 1e-3


def plan_of(given: argparse.Namespace) -> Plan:
    """The run that is described above."""
    recipe = NetworkRecipe(
        optimizer="adamw",
        lr=given.rate,
        backbone_factor=given.backbone_factor,
        weight_decay=given.weight_decay,
        batch_size=given.batch,
        epochs=given.epochs,
        schedule="one_cycle",
        precision="auto",
    )
    return Plan(
        "dldl_v2",
        "dlib",
        Look("aligned", SIZE, given.padding),
        backbone_settings={"folded": not given.unfolded},
        augment=[("flip", {}), ("colour", {}), ("affine", {})],
        head=HeadRecipe(normalise=not given.raw),
        recipe=recipe,
    )


def finetuned(project: Project, plan: Plan, given: argparse.Namespace, weights: Path) -> Row:
    """Train the network, write it, measure it."""
    pixels = decoded(
        project.crops,
        project.faces.face_ids,
        plan.look,
        margin=project.margin,
        cache=given.project / "data/pixels",
        workers=2,
    )
    machine = Machine(loaders=2)
    one = train_member(plan, project.faces, pixels, given.seed, given.out / "checkpoints", machine, "dlib")
    write_network(one.fitted.network, one.architecture, project.faces.ids(), weights)
    predicted = predict(one.fitted.network, one.criterion, project.faces, pixels, plan, machine)
    assert predicted.distributions is not None
    scores = project.measured(predicted.values[:, 0], predicted.distributions[:, 0])
    seen = len(project.faces.rows("train")) * plan.recipe.epochs
    return {
        "mae": scores["test_mae"],
        "chosen": scores["test_mae"],
        "ensemble": scores["test_mae"],
        "seconds": one.fitted.seconds,
        "note": f"CS@5 {scores['cs5']:.3f}, best epoch {one.fitted.best_epoch}, "
        f"{seen / one.fitted.seconds:.0f} images/s",
    }


def on_vectors(project: Project, names: list[str], weights: Path, given: argparse.Namespace) -> Row:
    """Train the MLP on the vectors of some encoders."""
    own = {"finetuned": {"weights": str(weights)}}
    encoders = build_all(names, [View()], margin=project.margin, settings=own, precision="auto")
    store, labelled = given.out / "cache", project.faces
    start = time.perf_counter()
    embed(shards.paths(project.crops), encoders, store, workers=2)
    crops = read_folder(project.crops, ["face_id", "crop_id"])
    assert crops is not None
    ids = pa.chunked_array([labelled.face_ids], pa.string())
    trained = train(
        Faces(labelled.face_ids, labelled.targets[:, 0].double().numpy(), labelled.split),
        vectors_of(rows_of(crops, ids)["crop_id"].to_pylist(), encoders, store),
        members=given.members,
        rate=RATE,
        recipe=ON_VECTORS,
    )
    widths = " + ".join(str(encoder.dim) for encoder in encoders)
    kinds = {encoder.arithmetic for encoder in encoders if isinstance(encoder, TorchEncoder)}
    return {
        "mae": float(trained.test_mae.mean()),
        "chosen": trained.chosen,
        "ensemble": trained.ensemble,
        "seconds": time.perf_counter() - start,
        "note": f"{widths} wide, {', '.join(sorted(kinds))}",
    }


def keys_of(given: argparse.Namespace, project: Project) -> list[Row]:
    """Which results are wanted: the network itself, then the MLP on each set of vectors."""
    people = {"faces": len(project.faces.face_ids), "people": project.described()}
    trained = [plan_of(given), given.seed]
    mlp = [ON_VECTORS, RATE, given.members]
    return [
        {"what": NETWORK, **people, SETTINGS: settings_text(*trained)},
        *(
            {"what": f"MLP on {' + '.join(names)}", **people, SETTINGS: settings_text(*mlp, *trained)}
            for names in ENCODERS
        ),
    ]


def main() -> None:
    """Train the network, then the MLP on each set of vectors; print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--out", type=Path, default=Path("dlib"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--backbone-factor", type=float, default=1.0, help="the backbone's share of it")
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--padding", type=float, help="around the aligned face; dlib's own is 0.25")
    parser.add_argument("--unfolded", action="store_true", help="train affine layers too")
    parser.add_argument("--raw", action="store_true", help="features go into the head as they are")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--members", type=int, default=10, help="MLPs on each set of vectors")
    parser.add_argument("--limit", type=int, help="so many faces only")
    given = parser.parse_args()
    project = Project(given.project, given.limit)
    results = Results(given.out / "results.csv", KEYS, COLUMNS)
    keys = keys_of(given, project)
    name = hashlib.sha256(str(keys[0]).encode()).hexdigest()[:12]
    weights = given.out / f"{name}.safetensors"
    rows = [results.get(keys[0], lambda: finetuned(project, plan_of(given), given, weights))]
    for names, key in zip(ENCODERS, keys[1:], strict=True):
        rows.append(results.get(key, lambda names=names: on_vectors(project, names, weights, given)))
    print_row(["what", "test MAE, mean", "one, chosen on validation", "ensemble", "seconds", ""])
    print_row(["---", *["---:"] * 4, "---"])
    for row in rows:
        print_row([row[name] for name in ("what", "mae", "chosen", "ensemble", "seconds", "note")])


if __name__ == "__main__":
    main()
