"""Stage classify: whole networks of one loss, from labelled pictures to their classes."""

import shutil
from dataclasses import dataclass
from typing import Any

from pipeline.config import Params
from pipeline.config.network_sections import Classify
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.core.tables import new_folder, write_table
from pipeline.datasets.image_sets import divide, read_images
from pipeline.stages import locations
from pipeline.stages.running import Summary
from pipeline.training.networks.classifier_module import ClassificationRecipe
from pipeline.training.networks.classifier_runs import LabelledPictures, classifier_seeds, train_classifiers


def run(params: Params, workers: int, loss: str) -> Summary:
    """Train the classifiers of one of `classify.losses`; write networks, scores, histories, predictions.

    Parameters
    ----------
    workers
        Not used: one network trains at a time, on `classify.threads`.
    loss
        A name of the list.
    """
    wanted = params.classify
    if loss not in wanted.losses:
        asked = f"are {', '.join(wanted.losses)}" if wanted.losses else "are empty"
        raise UserError(f"params.yaml does not ask for loss {loss!r}: its classify.losses {asked}")
    folder = locations.classifier_folder(loss)
    read = labelled_pictures(params)
    settings = recipe_settings(wanted, loss)
    recipe = ClassificationRecipe(**settings)
    checkpoints = locations.classifier_checkpoints(loss)
    runs = train_classifiers(
        read.data,
        recipe,
        classifier_seeds(params.seed, wanted.seeds),
        checkpoints=checkpoints,
        thread_count=wanted.threads,
    )
    settings |= {
        "images": wanted.images.model_dump(),
        "classes": list(read.data.classes),
    }
    with new_folder(folder) as fresh:
        runs.write(fresh, "vec2age classify", settings)
        write_table(read.rejects.table(), fresh / "rejects.parquet", "vec2age classify", settings)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return {
        "pictures": len(read.data.labels),
        "classifiers": len(runs.classifiers),
        "test accuracy": round(float(runs.scores["accuracy"].mean()), 4),
        **read.rejects.summary(),
    }


def recipe_settings(wanted: Classify, loss: str) -> dict[str, Any]:
    """What a classifier's recipe is built from, for one of the losses."""
    apart = {
        "images",
        "validation",
        "test",
        "seeds",
        "architecture",
        "losses",
        "loss_settings",
        "threads",
    }
    return {
        "architecture": wanted.architecture.name,
        "architecture_settings": wanted.architecture.settings,
        "loss": loss,
        "loss_settings": wanted.loss_settings.get(loss, {}),
        **wanted.model_dump(exclude=apart),
    }


@dataclass(frozen=True)
class Read:
    """Divided pictures, and what was left out."""

    data: LabelledPictures
    rejects: Rejects


def labelled_pictures(params: Params) -> Read:
    """The pictures that params.yaml asks for, divided."""
    wanted = params.classify
    rejects = Rejects()
    images = read_images(wanted.images.name, wanted.images.root, rejects=rejects, **wanted.images.settings)
    parts = divide(images, wanted.validation, wanted.test, params.seed)
    data = LabelledPictures(
        images.pictures, images.labels, images.classes, parts.train, parts.validation, parts.test
    )
    return Read(data, rejects)
