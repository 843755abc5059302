"""`vec2age explain` of classifiers, and of models on vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.cli.explaining.on_embeddings import coloured_vectors, value_network
from pipeline.cli.explaining.written import NAMES, check_axes, keep, keep_planes
from pipeline.config import Params
from pipeline.core.errors import UserError
from pipeline.core.seeds import derive_seed
from pipeline.core.tables import read_table
from pipeline.explain.columns import heat_columns, points
from pipeline.explain.gradcam import layer_of
from pipeline.explain.landscape import Objective
from pipeline.explain.projections import Method, project
from pipeline.explain.targets import ClassScore
from pipeline.report.classification_tables import TITLES
from pipeline.stages import locations
from pipeline.stages.classify import labelled_pictures
from pipeline.training.networks.classifier import Classifier
from pipeline.training.networks.classifier_runs import LabelledPictures


def vectors(
    params: Params, method: Method, colour: str, faces: int, policy: str, optimizer: str
) -> list[str]:
    """Lay out vectors of embeddings/faces.parquet, coloured by target, error or a group."""
    seed = derive_seed(params.seed, "explain", "vectors")
    chosen, values = coloured_vectors(colour, faces, seed, policy, optimizer)
    unit = f" ({params.report.unit})" if colour in ("target", "error") else ""
    named = params.report.target if colour == "target" else colour
    columns = points(project(chosen, method, seed=seed), values)
    title = f"{NAMES[method]} of {len(chosen)} face vectors, coloured by {named}"
    return keep(f"vectors_{method}_{colour}", "projection", columns, title, colour=f"{named}{unit}")


def features(params: Params, losses: Sequence[str], method: Method, colour: str, pictures: int) -> list[str]:
    """Lay out what the last layer of classifiers is fed, for test pictures, coloured by class or error."""
    if colour not in ("class", "error"):
        raise UserError(f"features of pictures have no {colour!r}: colour them by class or error")
    seed = derive_seed(params.seed, "explain", "features")
    written = []
    for loss in losses:
        classifier, data, rows = classifier_and_pictures(params, loss, pictures)
        shown, labels = data.part(rows)
        names = np.array(data.classes)[labels]
        if colour == "error":
            names = np.where(classifier.predict(shown) == labels, "right", "wrong")
        columns = points(project(classifier.features(shown), method, seed=seed), names.tolist())
        group = {"together": f"{NAMES[method]} of learnt features, coloured by {colour}"}
        if len(losses) > 1:
            group["beside"] = f"features_{method}_{colour}"
        title = f"{NAMES[method]} of features learnt with {TITLES.get(loss, loss)}"
        name = f"features_{loss}_{method}_{colour}"
        written += keep(name, "projection", columns, title, colour=colour, **group)
    return written


def classes(params: Params, loss: str, pictures: int, layer: str | None) -> list[str]:
    """Grad-CAM of the predicted class of some test pictures."""
    classifier, data, rows = classifier_and_pictures(params, loss, pictures)
    shown, labels = data.part(rows)
    predicted = classifier.predict(shown)
    texts = [
        f"{data.classes[label]} → {data.classes[called]}"
        for label, called in zip(labels, predicted, strict=True)
    ]
    network = nn.Sequential(classifier.network, Scores(classifier))
    if layer is not None:
        layer_of(classifier.network, layer)  # refused by the names that --layer takes
    inner = None if layer is None else f"0.{layer}"
    columns = heat_columns(network, classifier.inputs(shown), shown, texts, ClassScore(), inner, "positive")
    title = f"Grad-CAM of classes learnt with {TITLES.get(loss, loss)}"
    caption = "True class → predicted class; what is red speaks for the predicted one."
    return keep(f"classes_{loss}", "heat", columns, title, caption=caption)


class Scores(nn.Module):
    """A classifier's outputs as scores of classes."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.loss = classifier.loss

    def forward(self, output: Tensor) -> Tensor:
        """(N, C) or (N, D) to (N, C)."""
        return self.loss.logits(output)


def faces(params: Params, count: int, policy: str, optimizer: str, layer: str | None) -> list[str]:
    """Grad-CAM of the number that the best model on vectors predicts, through its encoder to the face."""
    found = value_network(params, count, policy, optimizer)
    inner = layer or found.default_layer
    columns = heat_columns(
        found.network, found.inputs, found.pictures, found.texts, found.target, inner, "both"
    )
    caption = (
        f"True → predicted {params.report.target}; red is what the prediction rests on, whether it pushes "
        f"up or down. Layer {inner}."
    )
    return keep(
        f"faces_{policy}_{optimizer}", "heat", columns, f"Grad-CAM of {params.report.target}", caption=caption
    )


def landscape(
    params: Params, losses: Sequence[str], pictures: int, radius: float, steps: int, ratio_steps: int
) -> list[str]:
    """The loss around classifiers on training pictures, and how far from convex it is."""
    check_axes(radius, steps, ratio_steps)
    written = []
    for loss in losses:
        classifier, data, rows = classifier_and_pictures(params, loss, pictures, split="train")
        shown, labels = data.part(rows)
        objective = Objective(classifier.network, classifier.loss)
        batch = (classifier.inputs(shown), torch.as_tensor(labels).to(classifier.device))
        title = TITLES.get(loss, loss)
        written += keep_planes(
            f"plane_{loss}", title, objective, [batch], params.seed, radius, steps, ratio_steps
        )
    return written


def classifier_and_pictures(
    params: Params, loss: str, count: int, split: str = "test"
) -> tuple[Classifier, LabelledPictures, Any]:
    """The first classifier of a loss, and so many pictures of a split in an order of their own."""
    paths = sorted(locations.classifier_folder(loss).glob("*.safetensors"))
    if not paths:
        trained = sorted(path.name for path in locations.CLASSIFIERS.glob("*/"))
        known = f"there are {', '.join(trained)}" if trained else "none was trained yet"
        raise UserError(f"no classifier was trained with loss {loss!r}: {known}")
    classifier = Classifier.load(paths[0])
    data = labelled_pictures(params).data
    if data.classes != classifier.design.classes:
        raise UserError(
            f"{paths[0]} knows other classes than classify.images of params.yaml: use the profile that it "
            "was trained with"
        )
    check_tested(paths[0].parent, data)
    rows = np.asarray(getattr(data, split))
    order = np.random.default_rng(derive_seed(params.seed, "explain", split)).permutation(len(rows))
    return classifier, data, np.sort(rows[order[:count]])


def check_tested(folder: Path, data: LabelledPictures) -> None:
    """Refuse pictures that are divided otherwise than when classifiers were trained: some would be known.

    Raises
    ------
    UserError
        With what to do.
    """
    told = read_table(folder / "predictions.parquet", ["seed", "picture", "target"]).to_pandas()
    first = told[told["seed"] == told["seed"].iloc[0]]
    now = np.asarray(data.test)
    if not (np.array_equal(first["picture"], now) and np.array_equal(first["target"], data.labels[now])):
        raise UserError(
            f"{folder} was tested on other pictures than params.yaml sets apart now: set seed, "
            "classify.images, validation and test as they were, or run dvc repro classify"
        )
