"""What is to be explained of models on vectors: which faces, and one network from pixels to the number."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipeline import losses
from pipeline.config import Params
from pipeline.core.errors import UserError
from pipeline.core.seeds import derive_seed
from pipeline.core.tables import read_table, vectors_of
from pipeline.encoders import View, build
from pipeline.encoders.torch_encoder import Network, TorchEncoder
from pipeline.explain.colours import coloured, mean_predictions
from pipeline.explain.composed import Chain
from pipeline.explain.gradcam import last_maps
from pipeline.explain.pictures import Pictures
from pipeline.explain.targets import Target, Value
from pipeline.faces import shards
from pipeline.stages import locations
from pipeline.stages.chosen_encoders import own_settings
from pipeline.stages.origin import settings_made_with
from pipeline.training.mlp.members import Members

SMALLEST_MAPS = 4
"""Rows and columns of the maps that are weighed, unless a layer is named: fewer point at nothing."""


def coloured_vectors(
    colour: str, count: int, seed: int, policy: str, optimizer: str
) -> tuple[npt.NDArray[np.float32], list[Any]]:
    """Vectors of so many faces, and what they are to be coloured by.

    `target` is the true value, `error` the size of the mean prediction's error (so that only faces with
    predictions are shown), any other name a group column.
    """
    table = locations.read(locations.FACES)

    def predicted() -> dict[str, float]:
        folder = locations.run_folder(optimizer, policy)
        settings_made_with(folder / "scores.parquet", "vec2age train")
        return mean_predictions(read_table(folder / "predictions.parquet", ["face_id", "prediction"]))

    chosen, values = coloured(table, colour, count, seed, predicted)
    return vectors_of(table)[chosen], values


@dataclass(frozen=True)
class ValueNetwork:
    """A network from pixels to a number, and some faces to explain it on."""

    network: nn.Module
    inputs: Tensor
    pictures: Pictures
    texts: list[str]
    target: Target
    default_layer: str


def value_network(params: Params, count: int, policy: str, optimizer: str) -> ValueNetwork:
    """The encoder and the best member of a run as one network, with some test faces."""
    encoder = single_encoder(params)
    folder = locations.run_folder(optimizer, policy)
    settings_made_with(folder / "scores.parquet", "vec2age train")
    scores = read_table(folder / "scores.parquet").to_pandas()
    if not np.isfinite(scores["val_mae"].astype(float)).any():
        raise UserError(f"no model of {folder} ended well: none can be explained")
    best = int(scores.loc[scores["val_mae"].astype(float).idxmin(), "member"])
    members = Members.load(folder / "members.safetensors")
    loss = losses.build(members.loss, **members.loss_settings)
    trunk, head = encoder.load()
    steps: list[Any] = [Network(trunk, head, encoder.mean, encoder.scale, torch.float32)]
    if members.standardisation is not None:
        steps.append(members.standardisation)
    network = Chain(*steps, members.module(best), loss.prediction).eval()
    crops, landmarks, targets = some_faces(count, derive_seed(params.seed, "explain", "faces"))
    pictures = encoder.prepare(crops, landmarks)
    inputs = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        predicted = network(inputs).tolist()
    texts = [f"{target:g} → {value:.1f}" for target, value in zip(targets, predicted, strict=True)]
    layer = last_maps(network, inputs, SMALLEST_MAPS)
    return ValueNetwork(network, inputs, pictures, texts, Value(), layer)


def single_encoder(params: Params) -> TorchEncoder:
    """The encoder, if there is one alone, with one view, that runs in torch."""
    wanted = params.encoder
    if len(wanted.names) > 1 or len(wanted.views) > 1:
        raise UserError(
            "faces are explained through one encoder and one view: encoder.names and encoder.views of "
            "params.yaml hold several"
        )
    name = wanted.names[0]
    view = View(**wanted.views[0].model_dump())
    own = own_settings(wanted, name)
    encoder = build(name, margin=params.crop.margin, view=view, precision="fp32", **own)
    if not isinstance(encoder, TorchEncoder):
        raise UserError(f"encoder {name!r} does not run in torch: set encoder.dlib.backend to torch")
    return encoder


def some_faces(count: int, seed: int) -> tuple[Pictures, npt.NDArray[np.float32], list[float]]:
    """Crops, landmarks and targets of so many test faces."""
    table = read_table(locations.FACES, ["face_id", "target", "split"]).to_pandas()
    test = table[table["split"] == "test"].reset_index(drop=True)
    order = np.random.default_rng(seed).permutation(len(test))[:count]
    wanted = dict(zip(test["face_id"][order], test["target"][order], strict=True))
    crops, landmarks, targets = [], [], []
    for batch in shards.iterate(locations.CROPS, ["face_id", "image", "landmarks"]):
        ids = batch.column("face_id").to_pylist()
        here = [row for row, face in enumerate(ids) if face in wanted]
        if here:
            images, points = shards.arrays(batch.take(here))
            crops += list(images)
            landmarks += list(points)
            targets += [float(wanted[ids[row]]) for row in here]
    if not crops:
        raise UserError(
            f"{locations.CROPS} holds no crop of a test face: precomputed embeddings have no image to explain"
        )
    return np.stack(crops), np.stack(landmarks), targets
