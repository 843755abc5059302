"""What `vec2age explain` does: read what was trained, look into it, write tables and a page of them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor, nn

from pipeline.cnn.classification_runs import LabelledPictures
from pipeline.cnn.classifier import Classifier
from pipeline.errors import UserError
from pipeline.explain.gradcam import Heat, Sign, grad_cam, guided_gradients
from pipeline.explain.landscape import Objective, Plane, direction, loss_plane, ratio_plane
from pipeline.explain.pictures import Pictures, in_colour, of_gradients, overlaid
from pipeline.explain.projections import Method, project
from pipeline.explain.targets import ClassScore, Target
from pipeline.params import Params
from pipeline.reports import explained, page
from pipeline.reports.classification_tables import TITLES
from pipeline.reports.page import Page
from pipeline.seeds import derive_seed
from pipeline.stages import files
from pipeline.stages.classify import labelled_pictures
from pipeline.stages.explaining_vectors import coloured_vectors, value_network
from pipeline.tables import write_table

PRODUCER = "vec2age explain"
NAMES: dict[str, str] = {"tsne": "t-SNE", "umap": "UMAP"}


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
    written = []
    for loss in losses:
        classifier, data, rows = classifier_and_pictures(params, loss, pictures, split="train")
        shown, labels = data.part(rows)
        objective = Objective(classifier.network, classifier.loss)
        batch = (classifier.inputs(shown), torch.as_tensor(labels).to(classifier.device))
        along = tuple(
            direction(objective, derive_seed(params.seed, "explain", "direction", name))
            for name in ("δ", "η")
        )
        plane = loss_plane(objective, [batch], (along[0], along[1]), radius, steps)
        ratio = (
            ratio_plane(objective, batch, (along[0], along[1]), radius, ratio_steps) if ratio_steps else None
        )
        title = TITLES.get(loss, loss)
        written += keep(f"plane_{loss}", "plane", plane_columns(plane, ratio), title, radius=radius)
    return written


def plane_columns(plane: Plane, ratio: Plane | None) -> dict[str, Any]:
    """Two grids as rows; a point that is on one alone is null in the other."""
    found: dict[tuple[float, float], list[float | None]] = {}
    for position, grid in enumerate((plane, ratio)):
        if grid is None:
            continue
        for i, y in enumerate(grid.y):
            for j, x in enumerate(grid.x):
                found.setdefault((float(x), float(y)), [None, None])[position] = float(grid.values[i, j])
    return {
        "x": [x for x, _ in found],
        "y": [y for _, y in found],
        "loss": pa.array([loss for loss, _ in found.values()], pa.float64()),
        "ratio": pa.array([ratio for _, ratio in found.values()], pa.float64()),
    }


def classifier_and_pictures(
    params: Params, loss: str, count: int, split: str = "test"
) -> tuple[Classifier, LabelledPictures, Any]:
    """The first classifier of a loss, and so many pictures of a split in an order of their own."""
    paths = sorted(files.classifier_folder(loss).glob("*.safetensors"))
    if not paths:
        trained = sorted(path.name for path in files.CLASSIFIERS.glob("*/"))
        known = f"there are {', '.join(trained)}" if trained else "none was trained yet"
        raise UserError(f"no classifier was trained with loss {loss!r}: {known}")
    classifier = Classifier.load(paths[0])
    data = labelled_pictures(params).data
    if data.classes != classifier.design.classes:
        raise UserError(
            f"{paths[0]} knows other classes than classify.images of params.yaml: use the profile that it "
            "was trained with"
        )
    rows = np.asarray(getattr(data, split))
    order = np.random.default_rng(derive_seed(params.seed, "explain", split)).permutation(len(rows))
    return classifier, data, np.sort(rows[order[:count]])


def heat_columns(
    network: nn.Module,
    inputs: Tensor,
    pictures: Pictures,
    texts: Sequence[str],
    target: Target,
    layer: str | None,
    sign: Sign,
) -> dict[str, Any]:
    """Pictures, their heat and their guided gradients, as PNG files in columns.

    This is all that explaining another kind of network takes: its inputs (N, C, H, W), the pictures they
    stand for at the same size, a text for each, and what is to be explained.
    """
    heat: Heat = grad_cam(network, inputs, layer, target, sign)
    sharp = heat[:, None] * guided_gradients(network, inputs, target)
    shown = {
        "picture": in_colour(pictures),
        "overlay": overlaid(pictures, heat),
        "guided": of_gradients(sharp),
    }
    return {"text": list(texts)} | {name: [png(one) for one in some] for name, some in shown.items()}


def png(pixels: Pictures) -> bytes:
    """A picture's file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "png")
    return buffer.getvalue()


def points(plane: Any, values: Sequence[Any] | Any) -> dict[str, Any]:
    """Coordinates, and what they are coloured by: texts as labels, numbers as values."""
    named = "value" if np.asarray(values).dtype.kind == "f" else "label"
    return {"x": plane[:, 0], "y": plane[:, 1], named: list(values)}


def keep(name: str, kind: str, columns: dict[str, Any], title: str, **settings: Any) -> list[str]:
    """Write one table, and the page of all tables so far."""
    path = files.EXPLAINED / f"{name}.parquet"
    write_table(pa.table(columns), path, PRODUCER, {"kind": kind, "title": title, **settings})
    write_page()
    return [str(path)]


def write_page() -> Path:
    """The page of everything that was explained; the report has the same sections."""
    made = explained.sections(files.EXPLAINED)
    target = files.EXPLAINED / "index.html"
    page.write(Page("What networks look at", "Made by vec2age explain.", sections=made), target)
    return target
