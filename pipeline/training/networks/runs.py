"""A run: networks of one loss and one backbone, one for each seed."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch

from pipeline.augmentation.transforms import Augmentation
from pipeline.backbones import starts
from pipeline.core.errors import UserError
from pipeline.core.progress import bar
from pipeline.core.seeds import derive_seed
from pipeline.core.tables import first_line
from pipeline.losses.base import DivergedError
from pipeline.training.networks.criterion import Criterion, build_criterion
from pipeline.training.networks.fit import Fitted, Material, fit_network, lightning_precision
from pipeline.training.networks.lightning import identity_text
from pipeline.training.networks.loading import Faces
from pipeline.training.networks.material import Labelled, mirror_signs
from pipeline.training.networks.network import FaceNetwork
from pipeline.training.networks.pixels import Pixels
from pipeline.training.networks.plan import Plan
from pipeline.training.networks.predicting import predict
from pipeline.training.networks.recipe import Machine
from pipeline.training.networks.run_tables import (
    Diverged,
    Ended,
    Judged,
    history_table,
    prediction_table,
    score_table,
)
from pipeline.training.networks.saved import Architecture, write_network

START = ("pretrained", "weights", "sha256", "download")
"""Settings of a backbone that say what its weights start from, not what it is."""


@dataclass(frozen=True)
class Outcome:
    """The tables of a run by their files' names, and how long each network took to train."""

    tables: dict[str, pa.Table]
    labels: list[float] | None
    seconds: tuple[float, ...]

    def counts(self) -> dict[str, str | int | float]:
        """What to tell: how many networks there are, how well they do on validation faces, what diverged."""
        scores = self.tables["scores"]
        lost = scores["diverged"].drop_null().to_pylist()
        told: dict[str, str | int | float] = {"networks": scores.num_rows - len(lost)}
        if len(lost) < scores.num_rows:
            told["epochs, mean"] = round(pc.mean(scores["epochs"]).as_py(), 1)
            told["validation MAE, mean"] = round(pc.mean(scores["val_mae"]).as_py(), 4)
        return told | ({"diverged": len(lost), "why": lost[0]} if lost else {})


def finetune(
    plan: Plan,
    faces: Labelled,
    pixels: Pixels,
    seeds: Sequence[int],
    folder: Path,
    *,
    checkpoints: Path,
    machine: Machine | None = None,
) -> Outcome:
    """Train one network for each seed and let it predict; write their weights.

    One whose loss stops being a number is named in the scores, and the others go on: a table of many runs is
    worth having without it.

    Parameters
    ----------
    plan
        What is trained, and how.
    faces
        Whom on, with their pictures in `pixels`, row by row.
    seeds
        Of everything random, one for each network.
    folder
        Receives member0.safetensors and so on.
    checkpoints
        Where an interrupted run finds what it had; remove it once the outcome is written.
    machine
        What on.

    Raises
    ------
    UserError
        For a loss, backbone or setting that is unknown or does not fit.
    """
    machine = machine or Machine()
    members: list[Ended] = []
    for member, seed in enumerate(seeds):
        title = f"member {member}"
        try:
            one = train_member(plan, faces, pixels, seed, checkpoints / f"member{member}", machine, title)
        except DivergedError as error:
            members.append(Diverged(str(error)))
            continue
        write_network(
            one.fitted.network, one.architecture, faces.ids(), folder / f"member{member}.safetensors"
        )
        predicted = predict(one.fitted.network, one.criterion, faces, pixels, plan, machine)
        members.append(Judged(one.fitted, one.criterion, predicted))
    tables = {
        "scores": score_table(plan, faces, seeds, members),
        "history": history_table(members),
        "predictions": prediction_table(plan, faces, members),
    }
    trained = [one for one in members if isinstance(one, Judged)]
    labels = trained[0].criterion.labels if trained else None
    return Outcome(tables, labels, tuple(one.fitted.seconds for one in trained))


@dataclass(frozen=True)
class Member:
    """A trained network, what it was built from, and its loss."""

    fitted: Fitted
    architecture: Architecture
    criterion: Criterion


def train_member(
    plan: Plan,
    faces: Labelled,
    pixels: Pixels,
    seed: int,
    checkpoints: Path,
    machine: Machine,
    title: str,
) -> Member:
    """Train one network; `DivergedError` says which, in which epoch and step, and what to do."""
    train, validation = (faces.targets[faces.rows(name)] for name in ("train", "validation"))
    criterion, loss_settings = build_criterion(
        plan.loss,
        plan.loss_settings,
        train,
        validation,
        labels=plan.goal.labels,
        span=plan.head.span,
        face_ids=faces.ids()["train"] + faces.ids()["validation"],
    )
    built = {key: value for key, value in plan.backbone_settings.items() if key not in START}
    architecture = Architecture(
        plan.backbone, built, plan.look, plan.goal.columns, plan.loss, loss_settings, plan.head
    )
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "weights"))
        trunk = starts.build(plan.backbone, **plan.backbone_settings)
        network = FaceNetwork(trunk, architecture.build_head(trunk.width, criterion, train))
    check_size(network, plan)
    augment = Augmentation(plan.augment, plan.look.size)
    material = Material(
        part_of(faces, pixels, "train"),
        part_of(faces, pixels, "validation"),
        plan.look.size,
        augment,
        mirror_signs(plan.goal.columns),
    )
    with bar() as progress:
        task = progress.add_task(f"{plan.loss}, {plan.backbone}, {title}", total=plan.recipe.epochs)
        try:
            fitted = fit_network(
                network,
                criterion,
                material,
                plan.recipe,
                seed=seed,
                checkpoints=checkpoints,
                identity=identity_of(plan, network, faces, pixels, seed, machine),
                machine=machine,
                on_epoch=lambda row: progress.update(task, completed=int(row["epoch"])),
            )
        except DivergedError as error:
            raise DivergedError(
                f"loss {plan.loss!r} with backbone {plan.backbone!r}, seed {seed}: {error}"
            ) from None
    return Member(fitted, architecture, criterion)


def identity_of(
    plan: Plan, network: FaceNetwork, faces: Labelled, pixels: Pixels, seed: int, machine: Machine
) -> str:
    """Text that is the same for the same run: settings, faces, pictures, precision, threads, code."""
    people = hashlib.sha256("\n".join(faces.face_ids).encode())
    people.update("\n".join(faces.split).encode())
    people.update(faces.targets.numpy().tobytes() + faces.weights.numpy().tobytes())
    return identity_text(
        {
            **{key: value for key, value in asdict(plan).items() if key != "within"},
            "precision": lightning_precision(plan.recipe.precision, network),
            "faces": people.hexdigest(),
            "pixels": pixels.path.name,
            "seed": seed,
            "machine": [machine.threads, machine.devices, machine.accelerator],
        }
    )


@torch.no_grad()
def check_size(network: FaceNetwork, plan: Plan) -> None:
    """Refuse pictures that are too small for a backbone, before anything is trained."""
    size = plan.look.size
    try:
        network.eval()(torch.zeros(1, 3, size, size, dtype=torch.uint8))
    except (RuntimeError, AssertionError) as error:
        why = first_line(error)
        raise UserError(f"backbone {plan.backbone!r} cannot take {size} x {size} pixels: {why}") from None


def part_of(faces: Labelled, pixels: Pixels, split: str) -> Faces:
    """The faces of one split."""
    rows = faces.rows(split)
    return Faces(pixels.take(rows), faces.targets[rows], faces.weights[rows])
