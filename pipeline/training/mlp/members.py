"""Trained members: their weights as one file, and what they predict."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from safetensors.torch import save as to_bytes
from torch import Tensor

from pipeline import losses
from pipeline.core.artifacts import Described, described_as, read_arrays_of
from pipeline.core.errors import UserError
from pipeline.core.tables import atomic_file, first_line
from pipeline.training.mlp.data import Standardisation, checked_vectors
from pipeline.training.mlp.layers import MLP, Layout
from pipeline.training.mlp.stack import SeedStack

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
    def load(cls, path: Path, again: str = "train again (dvc repro)") -> "Members":
        """Read what `save` wrote; `again` is what messages advise.

        Raises
        ------
        UserError
            If the file is missing, damaged, not one of these, or its models would give no numbers.
        """
        arrays, text = read_arrays_of(path, KEY, again=again)
        told = described_as(Told, text, path, again)
        try:
            return cls.restored({name: torch.from_numpy(array) for name, array in arrays.items()}, told)
        # what a loss raises where outputs are not those it knows
        except (UserError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
            raise UserError(f"{path} is not what training writes ({first_line(error)}): {again}") from error

    @classmethod
    def restored(cls, tensors: dict[str, Tensor], told: "Told") -> "Members":
        """What `save` took apart; raises Python's or torch's own errors where it does not fit."""
        depth = sum(name.endswith(".weight") for name in tensors)
        weights = [tensors[f"layers.{k}.weight"] for k in range(depth)]
        if not weights or any(weight.ndim != 3 for weight in weights):
            raise ValueError("its layers are not weights of (models, inputs, outputs)")
        layout = Layout((weights[0].shape[1], *(weight.shape[2] for weight in weights)))
        wanted: dict[str, tuple[int, ...]] = {
            f"layers.{k}.{name}": shape
            for k, (before, after) in enumerate(pairwise(layout.widths))
            for name, shape in (
                ("weight", (len(told.seeds), before, after)),
                ("bias", (len(told.seeds), after)),
            )
        }
        if any(name.startswith("standardisation.") for name in tensors):
            wanted |= dict.fromkeys(("standardisation.mean", "standardisation.scale"), (layout.widths[0],))
        if stray := sorted(set(wanted) ^ set(tensors)):
            raise ValueError(f"{stray[0][:80]!r} is {'missing' if stray[0] in wanted else 'unknown'}")
        for name, shape in wanted.items():
            if tensors[name].shape != shape:  # copying would repeat a smaller one
                raise ValueError(f"{name} is {tuple(tensors[name].shape)}, not {shape}")
        rows = torch.zeros(len(told.seeds), layout.row)
        for k, (weight, bias) in enumerate(layout.unpack(rows)):
            weight.copy_(tensors[f"layers.{k}.weight"])
            bias.squeeze(1).copy_(tensors[f"layers.{k}.bias"])
        learnt = None
        if "standardisation.mean" in wanted:
            learnt = Standardisation(tensors["standardisation.mean"], tensors["standardisation.scale"])
            if not (learnt.scale > 0).all():
                raise ValueError("standardisation.scale holds a number that is not above 0")
        labels = told.loss_settings.get("labels")
        if isinstance(labels, int) and labels > layout.widths[-1] + 1:
            raise ValueError(f"{labels} labels for {layout.widths[-1]} outputs")
        members = cls(layout, rows, told.seeds, told.loss, told.loss_settings, learnt)
        probe = members.predict(torch.zeros(1, layout.widths[0]))
        if probe.shape != (len(members), 1) or not probe.isfinite().all():
            raise ValueError(f"the loss {told.loss!r} makes no number of its outputs")
        return members


class Told(Described):
    """What a file of members says beside its arrays."""

    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    loss: str
    loss_settings: dict[str, Any]
