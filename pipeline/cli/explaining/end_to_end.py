"""`vec2age explain` of whole networks, those that the stage finetune trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from pipeline.cli.explaining.on_embeddings import SMALLEST_MAPS
from pipeline.cli.explaining.written import NAMES, check_axes, keep, keep_planes
from pipeline.config import Params
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.core.seeds import derive_seed
from pipeline.core.tables import read_table, rows_of
from pipeline.explain.colours import coloured, mean_predictions
from pipeline.explain.columns import heat_columns, points
from pipeline.explain.composed import Chain
from pipeline.explain.gradcam import last_maps, layer_of
from pipeline.explain.landscape import Objective
from pipeline.explain.pictures import Pictures
from pipeline.explain.projections import Method, project
from pipeline.explain.targets import Value
from pipeline.stages import locations
from pipeline.training.networks.criterion import Criterion
from pipeline.training.networks.material import Goal, labelled
from pipeline.training.networks.network import FaceNetwork
from pipeline.training.networks.pixels import blocks
from pipeline.training.networks.saved import Architecture, read_network

BATCH = 32


@dataclass(frozen=True)
class Trained:
    """The network of a run that does best on validation faces, and what it was built from."""

    network: FaceNetwork
    architecture: Architecture
    criterion: Criterion
    folder: Path
    member: int

    @property
    def title(self) -> str:
        """The names of its loss and backbone."""
        return f"{self.folder.parent.name}, {self.folder.name}"

    @property
    def name(self) -> str:
        """The same in the names of files."""
        return f"network_{self.folder.parent.name}_{self.folder.name}"

    def goal(self) -> Goal:
        """What it predicts."""
        labels = self.criterion.labels
        return Goal(self.architecture.columns, labels=None if labels is None else tuple(labels))


@dataclass(frozen=True)
class Seen:
    """Some faces as the network sees them: ids, pictures (N, S, S, 3), targets (N, K)."""

    face_ids: list[str]
    pictures: Pictures
    targets: Tensor

    @property
    def inputs(self) -> Tensor:
        """Pixels (N, 3, S, S)."""
        return torch.from_numpy(self.pictures).permute(0, 3, 1, 2).float()


def faces(
    params: Params, loss: str, backbone: str, count: int, layer: str | None, column: str | None
) -> list[str]:
    """Grad-CAM of a number that a whole network predicts for some test faces."""
    found = trained(loss, backbone)
    columns = found.architecture.columns
    wanted = columns[0] if column is None else column
    if wanted not in columns:
        raise UserError(f"{found.folder} does not predict {wanted!r}: it predicts {', '.join(columns)}")
    if layer is not None:
        layer_of(found.network, layer)  # refused by the names that --layer takes
    k = columns.index(wanted)
    seen = pictures_of(params, found, *some_faces(params, found, "test", count))
    with torch.no_grad():
        values = found.criterion.prediction(found.network(seen.inputs))[:, k].tolist()
    texts = [
        f"{target:g} → {value:.1f}" for target, value in zip(seen.targets[:, k].tolist(), values, strict=True)
    ]
    network = Chain(found.network, found.criterion.smooth_prediction).eval()
    inner = f"parts.step0.{layer}" if layer else last_maps(network, seen.inputs, SMALLEST_MAPS)
    shown = heat_columns(network, seen.inputs, seen.pictures, texts, Value(k), inner, "both")
    named = params.report.target if wanted == "target" else wanted
    caption = (
        f"True → predicted {named}; red is what the prediction rests on, whether it pushes up or down. "
        f"Layer {inner.removeprefix('parts.step0.')}."
    )
    name = f"faces_{found.name}" if column is None else f"faces_{found.name}_{column}"
    return keep(name, "heat", shown, f"Grad-CAM of {named} ({found.title})", caption=caption)


def features(
    params: Params, losses: Sequence[str], backbone: str, method: Method, colour: str, count: int
) -> list[str]:
    """Lay out the features of whole networks for test faces, coloured by target, error or a group."""
    seed = derive_seed(params.seed, "explain", "features")
    written = []
    for loss in losses:
        found = trained(loss, backbone)
        ids, targets = some_faces(params, found, "test", None)
        table = rows_of(locations.read(locations.MANIFEST), pa.chunked_array([ids], pa.string()))
        target = found.architecture.columns[0]
        rows, values = coloured(table, colour, count, seed, partial(predictions_of, found), target)
        seen = pictures_of(params, found, [ids[row] for row in rows], targets[rows])
        plane = project(features_of(found.network, seen.inputs), method, seed=seed)
        group = {"together": f"{NAMES[method]} of learnt features, coloured by {colour}"}
        if len(losses) > 1:
            group["beside"] = f"features_network_{backbone}_{method}_{colour}"
        unit = f" ({params.report.unit})" if colour in ("target", "error") else ""
        title = f"{NAMES[method]} of features learnt with {found.title}"
        name = f"features_{found.name}_{method}_{colour}"
        written += keep(name, "projection", points(plane, values), title, colour=f"{colour}{unit}", **group)
    return written


def landscape(
    params: Params,
    losses: Sequence[str],
    backbone: str,
    count: int,
    radius: float,
    steps: int,
    ratio_steps: int,
) -> list[str]:
    """The loss around whole networks on training faces, and how far from convex it is."""
    check_axes(radius, steps, ratio_steps)
    written = []
    for loss in losses:
        found = trained(loss, backbone)
        seen = pictures_of(params, found, *some_faces(params, found, "train", count))
        batches = list(zip(torch.split(seen.inputs, BATCH), torch.split(seen.targets, BATCH), strict=True))
        objective = Objective(found.network, found.criterion)
        written += keep_planes(
            f"plane_{found.name}", found.title, objective, batches, params.seed, radius, steps, ratio_steps
        )
    return written


def trained(loss: str, backbone: str) -> Trained:
    """The best network of a loss and a backbone."""
    folder = locations.network_folder(loss, backbone)
    if not (folder / "scores.parquet").is_file():
        there = sorted(f"{path.parent.parent.name} with {path.parent.name}" for path in scores_files())
        known = f"there are {', '.join(there)}" if there else "none was trained yet"
        raise UserError(f"no network was trained with loss {loss!r} and backbone {backbone!r}: {known}")
    scores = read_table(folder / "scores.parquet", ["member", "val_mae", "diverged"]).to_pandas()
    if scores.empty:
        raise UserError(f"{folder} holds no network: the data set had vectors, no pictures")
    if scores["diverged"].notna().all():
        why = scores["diverged"].iloc[0]
        raise UserError(f"every network of {folder} diverged, none can be explained: {why}")
    member = int(scores.loc[scores["val_mae"].idxmin(), "member"])
    network, architecture = read_network(folder / f"member{member}.safetensors")
    return Trained(network, architecture, architecture.criterion(), folder, member)


def scores_files() -> list[Path]:
    """The scores of all runs."""
    return list(locations.NETWORKS.glob("*/*/scores.parquet"))


def some_faces(params: Params, found: Trained, split: str, count: int | None) -> tuple[list[str], Tensor]:
    """Ids in ascending order and targets (N, K) of so many faces of a split, or of all.

    Raises
    ------
    UserError
        The faces are split otherwise than when the network was trained: it would be shown what it knows.
    """
    known = labelled(
        locations.read(locations.MANIFEST), locations.read(locations.SPLITS), found.goal(), Rejects()
    )
    rows = known.rows(split)
    told = read_table(found.folder / "predictions.parquet", ["face_id", "split"])
    was = dict(zip(told["face_id"].to_pylist(), told["split"].to_pylist(), strict=True))
    # of training faces nothing is recorded
    if any(was.get(known.face_ids[row], "train") != split for row in rows):
        raise UserError(
            f"{found.folder} was trained and judged on other faces than {locations.SPLITS} has now: set seed "
            "and split as they were, or run dvc repro finetune"
        )
    if count is not None:
        order = np.random.default_rng(derive_seed(params.seed, "explain", split)).permutation(len(rows))
        rows = np.sort(rows[order[:count]])
    return [known.face_ids[row] for row in rows], known.targets[rows]


def pictures_of(params: Params, found: Trained, face_ids: list[str], targets: Tensor) -> Seen:
    """Faces with their crops, as the network sees them."""
    parts = list(blocks(locations.CROPS, face_ids, found.architecture.look, params.crop.margin, workers=1))
    lacking = len(face_ids) - sum(len(part) for part in parts)
    if lacking:
        raise UserError(f"{locations.CROPS} lacks {lacking} of {len(face_ids)} faces: run dvc repro crop")
    return Seen(face_ids, np.concatenate(parts), targets)


@torch.inference_mode()
def features_of(network: FaceNetwork, inputs: Tensor) -> npt.NDArray[np.float32]:
    """What the head is fed, (N, width)."""
    parts = [network.features(part).float().numpy() for part in torch.split(inputs, BATCH)]
    return np.concatenate(parts)


def predictions_of(found: Trained) -> dict[str, float]:
    """What the network predicted for its first target."""
    table = read_table(found.folder / "predictions.parquet", ["member", "face_id", "column", "prediction"])
    mine = pc.and_(
        pc.equal(table["member"], found.member), pc.equal(table["column"], found.architecture.columns[0])
    )
    return mean_predictions(table.filter(mine))
