"""A run: networks of one loss and one backbone, one for each seed, and the tables that are kept of them."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cnn import backbones
from pipeline.cnn.augmentation import Augmentation, Operation
from pipeline.cnn.criterion import Criterion, build_criterion
from pipeline.cnn.fit import Fitted, Material, fit_network, lightning_precision
from pipeline.cnn.loading import EpochOrder, FaceData, Faces, loader
from pipeline.cnn.material import SPLITS, Goal, Labelled, mirror_signs
from pipeline.cnn.network import FaceNetwork
from pipeline.cnn.pixels import Pixels
from pipeline.cnn.recipe import HeadRecipe, Machine, Recipe
from pipeline.cnn.saved import Architecture, write_network
from pipeline.cnn.training import threads
from pipeline.encoders.looks import Look
from pipeline.errors import UserError
from pipeline.losses.base import DivergedError
from pipeline.metrics import cumulative_score, mae, modes, pearson, rmse
from pipeline.progress import bar
from pipeline.seeds import derive_seed
from pipeline.tables import first_line, vector_type

START = ("pretrained", "weights", "sha256", "download")
"""Settings of a backbone that say what its weights start from, not what it is."""
PREDICT_BATCH = 64

SCORES = pa.schema(
    [
        ("member", pa.int64()),
        ("seed", pa.int64()),
        ("lr", pa.float64()),
        ("epochs", pa.int64()),
        ("best_epoch", pa.int64()),
        ("val_loss", pa.float64()),
        ("mae", pa.float64()),
        ("val_mae", pa.float64()),
        ("test_mae", pa.float64()),
        ("test_rmse", pa.float64()),
        ("test_pearson", pa.float64()),
        ("test_within", pa.float64()),
        ("test_unimodal", pa.float64()),
        ("test_modes", pa.float64()),
    ]
)
HISTORY = pa.schema(
    [
        ("member", pa.int64()),
        ("epoch", pa.int64()),
        ("phase", pa.string()),
        ("lr", pa.float64()),
        ("train_loss", pa.float64()),
        ("val_loss", pa.float64()),
        ("val_mae", pa.float64()),
    ]
)


PREDICTIONS = pa.schema(
    [
        ("member", pa.int64()),
        ("face_id", pa.string()),
        ("split", pa.string()),
        ("column", pa.string()),
        ("target", pa.float32()),
        ("prediction", pa.float32()),
    ]
)


def empty_tables() -> dict[str, pa.Table]:
    """The tables of a run without a network."""
    schemas = {"scores": SCORES, "history": HISTORY, "predictions": PREDICTIONS}
    return {name: schema.empty_table() for name, schema in schemas.items()}


@dataclass(frozen=True)
class Plan:
    """Everything that decides a run's numbers, beside the faces and the seeds.

    Parameters
    ----------
    loss, loss_settings
        Of `pipeline.losses`.
    backbone, backbone_settings
        As for `pipeline.cnn.backbones.build`.
    look
        What networks see of a crop.
    augment
        Changes of training pictures.
    goal, head, recipe
        What is learnt, by which head, and how.
    within
        The share of test errors up to this one is counted.
    """

    loss: str
    backbone: str
    look: Look
    loss_settings: Mapping[str, Any] = field(default_factory=dict)
    backbone_settings: Mapping[str, Any] = field(default_factory=dict)
    augment: Sequence[Operation] = ()
    goal: Goal = field(default_factory=Goal)
    head: HeadRecipe = field(default_factory=HeadRecipe)
    recipe: Recipe = field(default_factory=Recipe)
    within: float = 5.0


@dataclass(frozen=True)
class Outcome:
    """The tables of a run by their files' names, and how long each network took to train."""

    tables: dict[str, pa.Table]
    labels: list[float] | None
    seconds: tuple[float, ...]

    def counts(self) -> dict[str, str | int | float]:
        """What to tell: how many networks there are, and how well they do on validation faces."""
        scores = self.tables["scores"]
        return {
            "networks": scores.num_rows,
            "epochs, mean": round(pc.mean(scores["epochs"]).as_py(), 1),
            "validation MAE, mean": round(pc.mean(scores["val_mae"]).as_py(), 4),
        }


@dataclass(frozen=True)
class Predicted:
    """What a network says of all faces: values (N, K), distributions (N, K, C) of losses that have them."""

    values: NDArray[np.float32]
    distributions: NDArray[np.float32] | None


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
        Where an interrupted run finds what it had; emptied at the end.
    machine
        What on.

    Raises
    ------
    UserError
        For a loss, backbone or setting that is unknown or does not fit, and for a loss that stops being a
        number: which one, in which epoch and step.
    """
    machine = machine or Machine()
    members = []
    for member, seed in enumerate(seeds):
        one = train_member(
            plan, faces, pixels, seed, checkpoints / f"member{member}", machine, f"member {member}"
        )
        write_network(
            one.fitted.network, one.architecture, faces.ids(), folder / f"member{member}.safetensors"
        )
        predicted = predict(one.fitted.network, one.criterion, faces, pixels, plan, machine)
        members.append((one, predicted))
    tables = {
        "scores": score_table(plan, faces, seeds, members),
        "history": history_table([one.fitted for one, _ in members]),
        "predictions": prediction_table(
            plan, faces, [(one.criterion, predicted) for one, predicted in members]
        ),
    }
    shutil.rmtree(checkpoints, ignore_errors=True)
    return Outcome(tables, members[0][0].criterion.labels, tuple(one.fitted.seconds for one, _ in members))


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
    """Train one network."""
    train, validation = (faces.targets[faces.rows(name)] for name in ("train", "validation"))
    criterion, loss_settings = build_criterion(
        plan.loss,
        plan.loss_settings,
        train,
        validation,
        labels=plan.goal.labels,
        span=plan.head.span,
    )
    built = {key: value for key, value in plan.backbone_settings.items() if key not in START}
    architecture = Architecture(
        plan.backbone, built, plan.look, plan.goal.columns, plan.loss, loss_settings, plan.head
    )
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "weights"))
        trunk = backbones.build(plan.backbone, **plan.backbone_settings)
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
            raise UserError(
                f"loss {plan.loss!r} with backbone {plan.backbone!r}, seed {seed}: {error}"
            ) from None
    return Member(fitted, architecture, criterion)


def identity_of(
    plan: Plan, network: FaceNetwork, faces: Labelled, pixels: Pixels, seed: int, machine: Machine
) -> str:
    """Text that is the same for the same run: settings, faces, pictures, precision, threads."""
    people = hashlib.sha256("\n".join(faces.face_ids).encode())
    people.update("\n".join(faces.split).encode())
    people.update(faces.targets.numpy().tobytes() + faces.weights.numpy().tobytes())
    described = {
        **{key: value for key, value in asdict(plan).items() if key != "within"},
        "precision": lightning_precision(plan.recipe.precision, network),
        "faces": people.hexdigest(),
        "pixels": pixels.path.name,
        "seed": seed,
        "machine": [machine.threads, machine.devices, machine.accelerator],
    }
    return json.dumps(described, sort_keys=True)


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


@torch.inference_mode()
def predict(
    network: FaceNetwork,
    criterion: Criterion,
    faces: Labelled,
    pixels: Pixels,
    plan: Plan,
    machine: Machine,
) -> Predicted:
    """Predictions for all faces, in the precision that the network was chosen in."""
    on_gpu = torch.cuda.is_available() and machine.accelerator in ("auto", "gpu", "cuda")
    device = torch.device("cuda" if on_gpu else "cpu")
    half = lightning_precision(plan.recipe.precision, network) == "bf16-mixed"
    data = FaceData(Faces(pixels, faces.targets, faces.weights), plan.look.size)
    batches = loader(data, EpochOrder(len(data), None), PREDICT_BATCH, 0)
    network = network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    criterion = criterion.to(device)
    values: list[Tensor] = []
    distributions: list[Tensor] = []
    with threads(machine.threads), torch.autocast(device.type, torch.bfloat16, enabled=half):
        for batch in batches:
            output = network(batch.pixels.to(device))
            values.append(criterion.prediction(output).float().cpu())
            probabilities = criterion.probabilities(output)
            if probabilities is not None:
                distributions.append(probabilities.float().cpu())
    network.cpu()
    criterion.cpu()
    return Predicted(torch.cat(values).numpy(), torch.cat(distributions).numpy() if distributions else None)


def score_table(
    plan: Plan, faces: Labelled, seeds: Sequence[int], members: Sequence[tuple[Member, Predicted]]
) -> pa.Table:
    """One row a network; errors are means over targets, of the weights that were kept."""
    rows = []
    wanted = faces.targets.double().numpy()
    for member, (one, predicted) in enumerate(members):
        errors = {}
        for column, split in (("mae", "train"), ("val_mae", "validation"), ("test_mae", "test")):
            at = faces.rows(split)
            errors[column] = float(
                np.mean([mae(v, t) for v, t in zip(predicted.values[at].T, wanted[at].T, strict=True)])
            )
        test = faces.rows("test")
        pairs = list(zip(predicted.values[test].T, wanted[test].T, strict=True))
        shapes = None if predicted.distributions is None else modes(predicted.distributions[test])
        rows.append(
            {
                "member": member,
                "seed": seeds[member],
                "lr": plan.recipe.lr,
                "epochs": len(one.fitted.history),
                "best_epoch": one.fitted.best_epoch,
                "val_loss": one.fitted.history[one.fitted.best_epoch - 1]["val_loss"],
                **errors,
                "test_rmse": float(np.mean([rmse(*pair) for pair in pairs])),
                "test_pearson": finite(np.mean([pearson(*pair) for pair in pairs])),
                "test_within": float(np.mean([cumulative_score(*pair, plan.within) for pair in pairs])),
                "test_unimodal": None if shapes is None else float((shapes == 1).mean()),
                "test_modes": None if shapes is None else float(shapes.mean()),
            }
        )
    return pa.Table.from_pylist(rows, schema=SCORES)


def finite(value: Any) -> float | None:
    """A number, or None where there is none."""
    return float(value) if np.isfinite(value) else None


def history_table(fitted: Sequence[Fitted]) -> pa.Table:
    """One row for each network and epoch."""
    rows = [{"member": member, **row} for member, one in enumerate(fitted) for row in one.history]
    return pa.Table.from_pylist(rows, schema=HISTORY)


def prediction_table(plan: Plan, faces: Labelled, members: Sequence[tuple[Criterion, Predicted]]) -> pa.Table:
    """One row for each network, target, and validation or test face.

    `spread` is the standard deviation of the predicted distribution; it and `distribution` are there for
    losses over labels.
    """
    judged = np.flatnonzero(faces.split != SPLITS[0])
    parts = []
    for member, (criterion, predicted) in enumerate(members):
        for k, column in enumerate(plan.goal.columns):
            arrays: dict[str, Any] = {
                "member": np.full(len(judged), member, dtype=np.int64),
                "face_id": [faces.face_ids[row] for row in judged],
                "split": faces.split[judged],
                "column": [column] * len(judged),
                "target": faces.targets[judged, k].numpy(),
                "prediction": predicted.values[judged, k],
            }
            if predicted.distributions is not None and criterion.labels is not None:
                shapes = predicted.distributions[judged, k]
                values = np.asarray(criterion.labels)
                means = shapes @ values
                arrays["spread"] = np.sqrt((shapes * np.square(values - means[:, None])).sum(axis=1)).astype(
                    np.float32
                )
                arrays["distribution"] = pa.FixedSizeListArray.from_arrays(
                    pa.array(shapes.ravel()), type=vector_type(shapes.shape[1])
                )
            parts.append(pa.table(arrays))
    return pa.concat_tables(parts)
