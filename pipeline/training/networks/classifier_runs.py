"""One classifier for each seed, as the files that a stage writes and a report reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from pipeline.core.progress import bar
from pipeline.core.seeds import derive_seed
from pipeline.core.tables import write_table
from pipeline.metrics.class_scores import classification_scores
from pipeline.training.networks.arrays import Labels, Pictures
from pipeline.training.networks.classifier import Classifier
from pipeline.training.networks.classifier_fit import Trained, fit_classifier
from pipeline.training.networks.classifier_module import ClassificationRecipe

Rows = Sequence[int] | np.ndarray[Any, Any]


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures with their classes, divided.

    Parameters
    ----------
    pictures, labels
        uint8 (N, H, W) or (N, H, W, 3), and class numbers (N,).
    classes
        The classes' names.
    train, validation, test
        Rows.
    """

    pictures: Pictures
    labels: Labels
    classes: tuple[str, ...]
    train: Rows
    validation: Rows
    test: Rows

    def part(self, rows: Rows) -> tuple[Pictures, Labels]:
        """Some pictures and their classes."""
        return self.pictures[rows], self.labels[rows]


@dataclass(frozen=True)
class ClassifierRuns:
    """The classifiers of one loss, and their tables.

    `scores` has a row for each seed: `seed`, `epochs`, `best_epoch`, `val_loss`, and of the test pictures
    `loss`, `accuracy`, `precision`, `recall`, `f1`. `history` has one for each seed and epoch,
    `predictions` one for each seed and test picture.
    """

    classifiers: tuple[Classifier, ...]
    scores: pd.DataFrame
    history: pd.DataFrame
    predictions: pd.DataFrame

    def write(self, folder: Path, producer: str, settings: dict[str, Any]) -> None:
        """Write tables and networks: {seed}.safetensors."""
        for name in ("scores", "history", "predictions"):
            table = pa.Table.from_pandas(getattr(self, name), preserve_index=False)
            write_table(table.replace_schema_metadata(), folder / f"{name}.parquet", producer, settings)
        for seed, classifier in zip(self.scores["seed"], self.classifiers, strict=True):
            classifier.save(folder / f"{seed}.safetensors")


def classifier_seeds(root: int, seeds: int | Sequence[int]) -> list[int]:
    """The seeds of all classifiers, drawn from the root seed where only their number is given.

    Examples
    --------
    >>> classifier_seeds(7, [5, 6])
    [5, 6]
    """
    if isinstance(seeds, int):
        return [derive_seed(root, "classifier", number) for number in range(seeds)]
    return list(seeds)


def train_classifiers(
    data: LabelledPictures,
    recipe: ClassificationRecipe,
    seeds: Sequence[int],
    accelerator: str = "auto",
    *,
    checkpoints: Path | None = None,
    thread_count: int | None = None,
) -> ClassifierRuns:
    """Train one classifier for each seed, on the same pictures, and judge each on the test pictures.

    `checkpoints` is a folder from which an interrupted run goes on; remove it once the runs are written. For
    `accelerator` and `thread_count` see `fit_classifier`.
    """
    classifiers, scores, history, predictions = [], [], [], []
    test_pictures, test_labels = data.part(data.test)
    for seed in seeds:
        kept = None if checkpoints is None else checkpoints / str(seed)
        trained = one_classifier(data, recipe, seed, accelerator, kept, thread_count)
        row, predicted = judge(trained.classifier, test_pictures, test_labels)
        best = trained.history.loc[trained.history["epoch"] == trained.best_epoch].iloc[0]
        scores.append(
            {
                "seed": seed,
                "epochs": len(trained.history),
                "best_epoch": trained.best_epoch,
                "val_loss": float(best["val_loss"]),
                **row,
            }
        )
        classifiers.append(trained.classifier)
        history.append(trained.history.assign(seed=seed))
        predictions.append(
            pd.DataFrame(
                {
                    "seed": seed,
                    "picture": np.asarray(data.test),
                    "target": test_labels,
                    "predicted": predicted,
                }
            )
        )
    return ClassifierRuns(
        tuple(classifiers),
        pd.DataFrame(scores),
        pd.concat(history, ignore_index=True),
        pd.concat(predictions, ignore_index=True),
    )


def one_classifier(
    data: LabelledPictures,
    recipe: ClassificationRecipe,
    seed: int,
    accelerator: str,
    checkpoints: Path | None,
    thread_count: int | None,
) -> Trained:
    """Train the classifier of one seed while a bar shows its epochs."""
    with bar() as progress:
        task = progress.add_task(f"{recipe.loss}, {recipe.architecture}, seed {seed}", total=recipe.epochs)
        return fit_classifier(
            data.part(data.train),
            data.part(data.validation),
            data.classes,
            recipe,
            seed,
            accelerator,
            checkpoints=checkpoints,
            thread_count=thread_count,
            on_epoch=lambda row: progress.update(task, completed=int(row["epoch"])),
        )


def judge(classifier: Classifier, pictures: Pictures, labels: Labels) -> tuple[dict[str, float], Labels]:
    """Loss and scores of a classifier on some pictures, and what it calls them."""
    outputs = torch.from_numpy(classifier.outputs(pictures))
    loss = classifier.loss.cpu()
    with torch.no_grad():
        value = float(loss(outputs, torch.as_tensor(labels)))
        predicted = loss.prediction(outputs).numpy()
    return {"loss": value, **vars(classification_scores(predicted, labels))}, predicted
