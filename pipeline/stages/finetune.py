"""Stage finetune: whole networks of one loss and one backbone, from pixels to the target."""

import shutil
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.backbones.input_transforms import Look
from pipeline.config import Params
from pipeline.config.network_sections import Finetune
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.core.seeds import derive_seed
from pipeline.core.tables import new_folder, sha256, write_table
from pipeline.stages import locations
from pipeline.stages.running import Detailed, Summary
from pipeline.training.networks.material import Goal, labelled
from pipeline.training.networks.pixels import decoded
from pipeline.training.networks.plan import Plan
from pipeline.training.networks.recipe import HeadRecipe, Machine, Recipe
from pipeline.training.networks.run_tables import empty_tables
from pipeline.training.networks.runs import finetune
from pipeline.training.networks.variants import varied

PRODUCER = "vec2age finetune"


def run(params: Params, workers: int, loss: str, backbone: str) -> Summary:
    """Train, predict; write weights, scores, histories, predictions and what was left out."""
    folder = locations.network_folder(loss, backbone)
    plan, wanted = plan_of(params, loss, backbone)
    settings = recorded(plan, wanted, loss)
    rejects = Rejects()
    if locations.ready_vectors() is not None:
        with new_folder(folder) as fresh:
            write(fresh, empty_tables() | {"rejects": rejects.table()}, settings)
        return {"networks": 0, "why": "the data set holds vectors, no pictures"}
    faces = labelled(locations.read(locations.MANIFEST), locations.read(locations.SPLITS), plan.goal, rejects)
    pixels = decoded(
        locations.CROPS,
        faces.face_ids,
        plan.look.whole,
        margin=params.crop.margin,
        cache=locations.PIXELS,
        workers=workers,
    )
    checkpoints = locations.checkpoint_folder(loss, backbone)
    with new_folder(folder) as fresh:
        outcome = finetune(
            plan,
            faces,
            pixels,
            seeds_of(params),
            fresh,
            checkpoints=checkpoints,
            machine=Machine(**wanted.machine.model_dump(), loaders=min(workers, 2) if plan.augment else 0),
        )
        write(fresh, outcome.tables | {"rejects": rejects.table()}, settings | {"labels": outcome.labels})
    shutil.rmtree(checkpoints, ignore_errors=True)
    return Detailed(
        outcome.counts() | rejects.summary(),
        member_seconds=list(outcome.seconds),
        scores=sha256(folder / "scores.parquet"),
    )


def write(folder: Any, tables: dict[str, pa.Table], settings: dict[str, Any]) -> None:
    """Write a run's tables, each with the settings of the run."""
    for name, table in tables.items():
        write_table(table, folder / f"{name}.parquet", PRODUCER, settings)


def plan_of(params: Params, loss: str, backbone: str) -> tuple[Plan, Finetune]:
    """What params.yaml asks for under the names of a loss, or a variant, and a backbone."""
    name, loss_settings, wanted = under(params.finetune, loss)
    if loss not in params.finetune.losses or backbone not in params.finetune.backbones:
        raise UserError(
            f"params.yaml does not ask for loss {loss!r} with backbone {backbone!r}: its finetune.losses are "
            f"{', '.join(params.finetune.losses)}, its backbones {', '.join(params.finetune.backbones)}"
        )
    recipe = wanted.recipe.model_dump()
    schedule = recipe.pop("schedule")
    pictures = wanted.pictures
    framing = pictures.framing
    if framing == "auto":
        framing = "aligned" if backbone == "dlib" else "crop"
    plan = Plan(
        loss=name,
        loss_settings=loss_settings,
        backbone=backbone,
        backbone_settings=wanted.starts.get(backbone, {}),
        look=Look(framing, pictures.size, pictures.padding, pictures.resize),
        augment=[(operation.name, operation.settings) for operation in pictures.augment],
        goal=goal_of(wanted),
        head=HeadRecipe(**wanted.head.model_dump()),
        recipe=Recipe(**recipe, schedule=schedule["name"], schedule_settings=schedule["settings"]),
        within=params.evaluate.within,
    )
    return plan, wanted


def under(wanted: Finetune, name: str) -> tuple[str, dict[str, Any], Finetune]:
    """The loss and its settings behind a name, and all of `finetune` as it is for that name."""
    if name not in wanted.variants:
        return name, {}, wanted
    variant = wanted.variants[name]
    tree = varied(wanted.model_dump(), name, variant.loss, variant.changes)
    return variant.loss, variant.settings, Finetune.model_validate(tree)


def goal_of(wanted: Finetune) -> Goal:
    """What is predicted, with labels as values."""
    faces = wanted.faces
    labels = None
    if faces.labels is not None:
        spaced = np.linspace(faces.labels.low, faces.labels.high, faces.labels.count)
        labels = tuple(float(value) for value in spaced)
    return Goal(tuple(faces.targets), faces.weight, faces.balance, labels)


def seeds_of(params: Params) -> list[int]:
    """The seeds of all runs' networks: as listed, or derived by name."""
    seeds = params.finetune.seeds
    if isinstance(seeds, list):
        return seeds
    return [derive_seed(params.seed, "finetune", member) for member in range(seeds)]


def recorded(plan: Plan, wanted: Finetune, name: str) -> dict[str, Any]:
    """What the report has to know of a run."""
    return {
        "name": name,
        "loss": plan.loss,
        "loss_settings": dict(plan.loss_settings),
        "backbone": plan.backbone,
        "start": wanted.starts.get(plan.backbone, {}),
        **wanted.model_dump(include={"faces", "pictures", "head", "recipe"}),
    }
