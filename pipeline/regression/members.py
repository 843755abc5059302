"""Trained members: their weights as one file, and what they predict."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from pipeline import losses
from pipeline.errors import UserError
from pipeline.opening import utf8_name
from pipeline.regression.data import Standardisation, checked_vectors
from pipeline.regression.mlp import MLP, Layout
from pipeline.regression.stack import SeedStack
from pipeline.tables import atomic_file, first_line

KEY = "vec2age"


@dataclass(frozen=True)
class Members:
    """The models of a seed stack, ready to predict.

    Parameters
    ----------
    layout
        Their layers.
    rows
        (members, layout.row): their parameters.
    seeds
        One per member.
    loss, loss_settings
        What they were trained with, which says what an output means; labels included.
    standardisation
        Applied to vectors before the first layer.

    Examples
    --------
    >>> layout = Layout((4, 3, 1))
    >>> members = Members(layout, layout.initial([7, 8]), (7, 8))
    >>> members.predict(torch.ones(5, 4)).shape
    torch.Size([2, 5])
    """

    layout: Layout
    rows: Tensor
    seeds: tuple[int, ...]
    loss: str = "mse"
    loss_settings: Mapping[str, Any] = field(default_factory=dict)
    standardisation: Standardisation | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def outputs(self, vectors: Any) -> Tensor:
        """What the last layer puts out, (members, N) or (members, N, C), for vectors (N, D).

        Raises
        ------
        UserError
            If the vectors are not of the members' width, or not finite.
        """
        x = checked_vectors(vectors, "given")
        if x.shape[1] != self.layout.widths[0]:
            raise UserError(
                f"vectors are {x.shape[1]} wide, the model takes {self.layout.widths[0]}: "
                "encode the faces with the encoders that it was trained on"
            )
        if self.standardisation is not None:
            x = self.standardisation(x)
        return SeedStack(self.layout, self.rows).outputs(x)

    def predict(self, vectors: Any) -> Tensor:
        """Predicted values (members, N), on the scale of the targets; arguments and errors as `outputs`."""
        return losses.build(self.loss, **self.loss_settings).prediction(self.outputs(vectors))

    def module(self, member: int) -> MLP:
        """One member as an ordinary torch module, on vectors already standardised."""
        return self.layout.module(self.rows[member])

    def save(self, path: Path) -> None:
        """Write all members into one safetensors file, atomically; the same members give the same bytes."""
        tensors = {}
        for depth, (weight, bias) in enumerate(self.layout.unpack(self.rows)):
            tensors[f"layers.{depth}.weight"] = weight.contiguous()
            tensors[f"layers.{depth}.bias"] = bias.squeeze(1).contiguous()
        if self.standardisation is not None:
            tensors["standardisation.mean"] = self.standardisation.mean
            tensors["standardisation.scale"] = self.standardisation.scale
        described = {"seeds": self.seeds, "loss": self.loss, "loss_settings": dict(self.loss_settings)}
        # a single key: safetensors writes several in no fixed order
        metadata = {KEY: json.dumps(described, sort_keys=True)}
        with atomic_file(path) as file:
            file.write(to_bytes(tensors, metadata))

    @classmethod
    def load(cls, path: Path) -> "Members":
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If the file is missing, damaged, or not one of these.
        """
        if not path.is_file():
            raise UserError(f"{path} does not exist: train first (dvc repro)")
        try:
            with utf8_name(path) as name, safe_open(name, "pt") as file:
                metadata = (file.metadata() or {}).get(KEY)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{path} is damaged: {first_line(error)}") from error
        if metadata is None:
            raise UserError(f"{path} is a safetensors file, but not of vec2age members")
        try:
            return cls.restored(tensors, json.loads(metadata))
        except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
            raise UserError(
                f"{path} is not what training writes ({type(error).__name__}: {first_line(error)}): "
                "train again"
            ) from error

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], described: Mapping[str, Any]) -> "Members":
        """What `save` took apart; raises Python's or torch's own errors where it does not fit."""
        depth = sum(name.endswith(".weight") for name in tensors)
        weights = [tensors[f"layers.{k}.weight"] for k in range(depth)]
        layout = Layout((weights[0].shape[1], *(weight.shape[2] for weight in weights)))
        seeds = tuple(described["seeds"])
        rows = torch.zeros(len(seeds), layout.row)
        for k, (weight, bias) in enumerate(layout.unpack(rows)):
            for target, name in ((weight, "weight"), (bias.squeeze(1), "bias")):
                found = tensors[f"layers.{k}.{name}"]
                if found.shape != target.shape:  # copying would repeat a smaller one
                    raise ValueError(f"layers.{k}.{name} is {tuple(found.shape)}, not {tuple(target.shape)}")
                target.copy_(found)
        learnt = (
            Standardisation(tensors["standardisation.mean"], tensors["standardisation.scale"])
            if "standardisation.mean" in tensors
            else None
        )
        return cls(layout, rows, seeds, described["loss"], dict(described["loss_settings"]), learnt)
