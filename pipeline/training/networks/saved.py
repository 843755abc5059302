"""A trained network as one file of safetensors, and back."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from pipeline import losses
from pipeline.backbones.input_transforms import Look
from pipeline.backbones.trained import METADATA_KEY, read_trained, short_id
from pipeline.backbones.trunks import build_trunk
from pipeline.backbones.weights import load_into
from pipeline.core.tables import atomic_file
from pipeline.losses.combo import ComboLoss
from pipeline.losses.ordinal import CORALLoss
from pipeline.training.networks.criterion import Criterion
from pipeline.training.networks.heads import ComboHead, CoralHead, DistributionHead, ValueHead
from pipeline.training.networks.network import FaceNetwork, Head
from pipeline.training.networks.recipe import HeadRecipe

VERSION = 1


@dataclass(frozen=True)
class Architecture:
    """Everything that a network is built from, but its weights.

    Parameters
    ----------
    backbone, backbone_settings
        As for `build_trunk`.
    look
        What it sees of a crop.
    columns
        The K targets.
    loss, loss_settings
        Complete, so that the loss needs no targets to be built.
    head
        What stands on the backbone.
    """

    backbone: str
    backbone_settings: dict[str, Any]
    look: Look
    columns: tuple[str, ...]
    loss: str
    loss_settings: dict[str, Any]
    head: HeadRecipe

    def criterion(self) -> Criterion:
        """The loss over the targets."""
        loss = losses.build(self.loss, **self.loss_settings)
        return Criterion(loss, len(self.columns), None if loss.output_dims else self.head.span)

    def build_head(self, width: int, criterion: Criterion, train: Tensor | None = None) -> Head:
        """The head that the loss needs, on features (N, width); `train` are targets (N, K) to start from."""
        loss, recipe = criterion.loss, self.head
        common: dict[str, Any] = {
            "hidden": recipe.hidden,
            "drop_rate": recipe.drop_rate,
            "normalise": recipe.normalise,
        }
        start = None if train is None else criterion.starting_point(train)
        centre, spread = (None, None) if start is None else start
        if isinstance(loss, ComboLoss) and loss.labels is not None:
            return ComboHead(width, len(loss.labels), centre=centre, spread=spread, **common)
        if isinstance(loss, CORALLoss) and len(self.columns) == 1:
            return CoralHead(width, loss.outputs or 1)
        if loss.output_dims:
            return DistributionHead(width, loss.outputs or 1, len(self.columns), **common)
        return ValueHead(
            width, len(self.columns), activation=recipe.activation, centre=centre, spread=spread, **common
        )


def write_network(
    network: FaceNetwork, architecture: Architecture, seen: dict[str, list[str]], path: Path
) -> None:
    """Write a network: the same weights give the same bytes.

    Parameters
    ----------
    seen
        The face_ids of `train` and `validation`, so that nobody judges it by faces it has learnt from.
    """
    described = {**asdict(architecture), "width": network.trunk.width, "version": VERSION}
    tensors = {
        f"{part}.{name}": tensor.detach().cpu().contiguous()
        for part in ("trunk", "head")
        for name, tensor in network.get_submodule(part).state_dict().items()
    }
    for split in ("train", "validation"):
        ids = b"".join(sorted(short_id(face) for face in seen[split]))
        tensors[f"faces.{split}"] = torch.frombuffer(bytearray(ids), dtype=torch.uint8).view(
            len(seen[split]), -1
        )
    # One key: safetensors writes several in an order that changes from run to run.
    metadata = {METADATA_KEY: json.dumps(described, sort_keys=True)}
    with atomic_file(path) as file:
        file.write(save(tensors, metadata=metadata))


def read_network(path: Path, sha256: str | None = None) -> tuple[FaceNetwork, Architecture]:
    """Read a network for inference.

    Raises
    ------
    UserError
        As `read_trained`.
    """
    trained = read_trained(path, sha256)
    described = dict(trained.described)
    width = int(described.pop("width"))
    described.pop("version")
    head = HeadRecipe(**described.pop("head"))
    architecture = Architecture(
        look=Look(**described.pop("look")), head=head, columns=tuple(described.pop("columns")), **described
    )
    trunk = build_trunk(architecture.backbone, **architecture.backbone_settings)
    load_into(trunk, trained.part("trunk"), path)
    built = architecture.build_head(width, architecture.criterion())
    load_into(built, trained.part("head"), path)
    return FaceNetwork(trunk, built).eval(), architecture
