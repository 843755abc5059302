"""The file of a network that the stage finetune trained: read, and its trunk built again."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.backbones.input_transforms import Look
from pipeline.backbones.trunks import Trunk, build_trunk
from pipeline.backbones.weights import check_fits, load_into, verified_sha256
from pipeline.core.artifacts import plain_json, read_arrays_of
from pipeline.core.errors import UserError
from pipeline.core.tables import first_line

METADATA_KEY = "vec2age"
TYPES = ("F32", "I64", "U8")
"""Of weights, of counters of batches, and of the faces that a network has seen."""
AGAIN = "name a network of models/cnn, as the stage finetune writes them"
ID_BYTES = 8
"""How much of a face_id's hash is kept of every face that a network has seen: enough to tell them apart."""


@dataclass(frozen=True)
class Trained:
    """A network's file: what it was built from and its tensors by name (`trunk.*`, `head.*`, `faces.*`)."""

    path: Path
    described: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def look(self) -> Look:
        """What the network sees of a crop."""
        return Look(**self.described["look"])

    def trunk(self) -> Trunk:
        """The network up to its pooled features, with its weights, ready for inference."""
        name, settings = self.described["backbone"], self.described["backbone_settings"]
        with torch.device("meta"):  # settings may ask for a network that no memory holds
            check_fits(build_trunk(name, **settings), self.part("trunk"), self.path)
        trunk = build_trunk(name, **settings)
        load_into(trunk, self.part("trunk"), self.path)
        return trunk.eval()

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors of one part, by their names within it."""
        start = f"{name}."
        return {key.removeprefix(start): t for key, t in self.tensors.items() if key.startswith(start)}

    def check_unseen(self, splits: dict[str, list[str]]) -> None:
        """Refuse splits in which the network has seen the answers of faces that are to judge it.

        Parameters
        ----------
        splits
            The face_ids of `train`, `validation` and `test`.

        Raises
        ------
        UserError
            When a test face was trained or chosen on, or a validation face trained on; with how many.
        """
        seen = {name: {row.tobytes() for row in rows.numpy()} for name, rows in self.part("faces").items()}
        for split, parts in (("test", ("train", "validation")), ("validation", ("train",))):
            known = set().union(*(seen[part] for part in parts))
            leaked = [face for face in splits[split] if short_id(face) in known]
            if leaked:
                raise UserError(
                    f"{self.path} has learnt from {len(leaked)} of the {len(splits[split])} {split} faces, "
                    f"first {leaked[0]}: train it on this split, or the error would be too good"
                )


def short_id(face_id: str) -> bytes:
    """What stands for a face in a network's file."""
    return hashlib.sha256(face_id.encode()).digest()[:ID_BYTES]


def read_trained(path: Path, sha256: str | None = None) -> Trained:
    """Read a network's file, in which nothing can be executed.

    Raises
    ------
    UserError
        When it is missing, damaged, has another hash, or was not written by the stage finetune.
    """
    verified_sha256(path, sha256)
    arrays, text = read_arrays_of(path, METADATA_KEY, types=TYPES, again=AGAIN)
    try:
        described = plain_json(text)
        Look(**described["look"])
        known = type(described["width"]) is int and isinstance(described["backbone"], str)
        if not known or not isinstance(described["backbone_settings"], dict):
            raise ValueError("its network is not described")
    except (ValueError, TypeError, KeyError, UserError) as error:
        raise UserError(
            f"{path} is not what the stage finetune writes ({first_line(error)}): {AGAIN}"
        ) from None
    return Trained(path, described, {name: torch.from_numpy(array) for name, array in arrays.items()})
